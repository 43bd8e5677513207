"""Build the file of an embedded view in a child process.

On a full disk kuzu may end its process, because it throws an error while it handles
another one. In a child process this becomes a message. The child opens a new database
and executes the statements that it reads; see ``atlas.stores.kuzu.build_child``. Tables
are sent as Arrow streams, so that no copy of them is written to the disk.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from atlas import schema
from atlas.errors import AtlasError, OutOfSpace, StoreError
from atlas.progress import Pace, Progress
from atlas.schema import Edge, Node, Property
from atlas.stores import Graph
from atlas.stores.child_process import ending, last_line, start
from atlas.stores.kuzu.engine import translation
from atlas.stores.kuzu.update import Update
from atlas.stores.partition import tables

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMAT", "Builder", "builder", "check_space", "seconds"]

FORMAT = 2  # views of format 1 may have zeros in lists of numbers; see NODE_GROUP
"""Raise it when ``atlas.assemble`` joins the same parts to other tables: older views are built again."""
BASE_BYTES, BYTES_PER_BYTE = 32 << 20, 3.0
"""Disk space of a build; measured are 12 MiB plus 2.2 to 3.0 times the bytes of the tables."""
SECONDS_A_BYTE = 0.085e-6
"""Initial estimate for Arrow data of any table; the pace of the first batches corrects it."""
NODE_GROUP = 1 << 17
"""Rows of a COPY of nodes: one node group of kuzu. Of later COPYs into a group that holds more
than about 2 million list elements, kuzu 0.11.3 stores zeros for the numbers in lists."""
TYPES = {
    "string": "STRING",
    "int64": "INT64",
    "double": "DOUBLE",
    "bool": "BOOL",
    "string[]": "STRING[]",
    "double[]": "DOUBLE[]",
}


@contextmanager
def builder(view: Path, *, buffer_pool: int) -> "Iterator[Builder]":
    """Start the child process, which loads its libraries meanwhile, and end it at the end.

    Parameters
    ----------
    view
        The file that is built, for messages.
    buffer_pool
        Memory for pages, in bytes.
    """
    child = start("atlas.stores.kuzu.build_child")
    try:
        yield Builder(child, view, buffer_pool=buffer_pool)
    finally:
        child.kill()
        child.communicate()


class Builder:
    """Writes one graph to a new database file, with the engine in a child process.

    Create one with ``builder``.
    """

    def __init__(self, child: "subprocess.Popen[bytes]", view: Path, *, buffer_pool: int) -> None:
        self._child = child
        self._view = view
        self._buffer_pool = buffer_pool
        self._folder = view.parent
        self.is_unused = True
        """Whether no file has been written yet; a builder writes one file."""

    def build(self, file: Path, graph: Graph, progress: Progress) -> None:
        """Write a graph to a file that does not exist yet.

        Raises
        ------
        OutOfSpace
            If the disk is full.
        StoreError
            If the engine refuses the graph or crashes.
        """
        self._folder = file.parent
        self._request({"path": str(file), "buffer_pool": self._buffer_pool})
        pace = Pace({"copy": seconds(graph)}, progress=progress)
        self._copy(graph, progress, pace=pace)
        self._finish(file, graph, updates=0)

    def update(
        self, file: Path, graph: Graph, update: Update, *, updates: int, progress: Progress
    ) -> None:
        """Change a copy of an older view to that of a graph.

        Parameters
        ----------
        file
            The copy.
        graph, update
            The graph, and its changes as ``plan_update`` returned them.
        updates
            Number of updates since the last complete build.
        progress
            Reports the changed tables.

        Raises
        ------
        OutOfSpace, StoreError
            As ``build`` does.
        """
        self._folder = file.parent
        self._request({"path": str(file), "buffer_pool": self._buffer_pool})
        title = f"Updating the graph of {graph.name}: {', '.join(update.names)}"
        with progress.stage(title, total=len(update.names), unit="tables") as stage:
            for name, rows in update.added.items():
                self._execute(f"COPY `{name}` FROM $rows", _copied(rows))
            for name, rows in update.changed.items():
                key, *others = rows.column_names
                numbered = rows.rename_columns([f"c{n}" for n in range(rows.num_columns)])
                wanted = ", ".join(f"n.`{other}` = c{at + 1}" for at, other in enumerate(others))
                self._execute(
                    f"LOAD FROM $rows MATCH (n:`{name}` {{`{key}`: c0}}) SET {wanted}",
                    _copied(numbered),
                )
            stage.advance(len(update.names) - len(update.edges))
            for spec in update.edges:
                self._execute(f"DROP TABLE `{spec.type}`")
                self._execute(_definition(spec))
                rows = graph.tables[spec.name].select(schema.arrow_schema(spec.name).names)
                if rows.num_rows:
                    self._execute(f"COPY `{spec.name}` FROM $rows", _copied(rows))
                stage.advance()
        self._finish(file, graph, updates=updates)

    def _finish(self, file: Path, graph: Graph, *, updates: int) -> None:
        """Store the contents in the comment of a table, and end the child."""
        atlas = graph.atlas
        record = {
            "format": FORMAT,
            "saes": {n: [atlas, f] for n, f in graph.fingerprints.items()},
            "sources": dict(graph.sources),
            "updates": updates,
        }
        text = json.dumps(record).replace("\\", "\\\\").replace("'", "\\'")
        self._execute(f"COMMENT ON TABLE `SAE` IS '{text}'")
        self._request({})
        # Without its log a database is complete; with it, a checkpoint has failed.
        if self._child.wait() != 0 or [p.name for p in file.parent.iterdir()] != [file.name]:
            raise self._crash()

    def _copy(self, graph: Graph, progress: Progress, *, pace: Pace) -> None:
        """Create and fill all tables; the copied batches correct the forecast."""
        total = sum(t.num_rows for t in graph.tables.values())
        title = f"Building the graph of {graph.name}"
        with progress.stage(title, total=total, unit="rows") as stage:
            for spec in tables():
                self._execute(_definition(spec))
                rows = graph.tables[spec.name].select(schema.arrow_schema(spec.name).names)
                for batch in _batches(rows) if isinstance(spec, Node) else [rows]:
                    if batch.num_rows:
                        self._execute(f"COPY `{spec.name}` FROM $rows", _copied(batch))
                    stage.advance(batch.num_rows)
                    pace.lap("copy", SECONDS_A_BYTE * batch.nbytes)

    def _execute(self, cypher: str, rows: "pa.Table | None" = None) -> None:
        self._request({"cypher": cypher, "rows": rows is not None}, rows)

    def _request(self, request: Mapping[str, Any], rows: "pa.Table | None" = None) -> None:
        """Send a request and wait until it is done."""
        self.is_unused = False
        to, answers = self._child.stdin, self._child.stdout
        assert to is not None
        assert answers is not None
        try:
            to.write(json.dumps(request).encode() + b"\n")
            if rows is not None:
                _send(rows, to)
            to.flush()
            answer = answers.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise self._crash()
        if error := json.loads(answer).get("error"):
            raise self._full(error) or translation(error, str(self._view), 0)

    def _crash(self) -> AtlasError:
        """Return the error for a child that ended without an answer."""
        log = self._child.communicate()[1]
        return self._full(log.decode(errors="replace")) or StoreError(
            f"The engine crashed while it built {self._view}, a cache in the folder of the atlas "
            f"({ending(self._child.returncode)}: {last_line(log)}). The atlas itself is complete; run the "
            "command again."
        )

    def _full(self, reason: str) -> OutOfSpace | None:
        """Return the error for a full disk; the engine's last message often names another reason."""
        free = shutil.disk_usage(self._folder).free
        if "No space left" not in reason and free >= BASE_BYTES:
            return None
        return OutOfSpace(
            f"The disk is full: the embedded view {self._view} could not be built ({free >> 20:,} MiB are "
            "free). Free some space and run the same command again; the atlas itself is complete."
        )


def check_space(view: Path, graph: Graph) -> None:
    """Check free disk space before a build, which takes minutes for a large graph.

    Raises
    ------
    OutOfSpace
        If there is too little.
    """
    needed = BASE_BYTES + int(BYTES_PER_BYTE * sum(t.nbytes for t in graph.tables.values()))
    free = shutil.disk_usage(view.parent).free
    if free < needed:
        raise OutOfSpace(
            f"Building the embedded view {view} needs about {needed >> 20:,} MiB of disk, but only "
            f"{free >> 20:,} MiB are free; free some space and try again. The atlas itself is complete."
        )


def seconds(graph: Graph) -> float:
    """Return a rough forecast of a build."""
    return SECONDS_A_BYTE * float(sum(t.nbytes for t in graph.tables.values()))


def _send(rows: "pa.Table", to: IO[bytes]) -> None:
    import pyarrow as pa

    with pa.ipc.new_stream(to, rows.schema) as stream:
        stream.write_table(rows)


def _definition(spec: Node | Edge) -> str:
    if isinstance(spec, Node):
        return f"CREATE NODE TABLE `{spec.label}` ({_columns(spec.properties)}, PRIMARY KEY (`{spec.key}`))"
    columns = f", {_columns(spec.properties)}" if spec.properties else ""
    return f"CREATE REL TABLE `{spec.type}` (FROM `{spec.source}` TO `{spec.target}`{columns})"


def _columns(properties: tuple[Property, ...]) -> str:
    return ", ".join(f"`{p.name}` {TYPES[p.type]}" for p in properties)


def _batches(rows: "pa.Table") -> "list[pa.Table]":
    """Cut a table into complete node groups; the first measures the pace."""
    return [rows.slice(start, NODE_GROUP) for start in range(0, max(1, rows.num_rows), NODE_GROUP)]


def _copied(rows: "pa.Table") -> "pa.Table":
    """Return rows to copy: without empty chunks, because a COPY may end at one, and with ``0.0`` instead of ``-0.0``.

    The engine sorts ``-0.0`` before negative numbers. Lists stay as they are.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    filled = pa.Table.from_batches((b for b in rows.to_batches() if b.num_rows), rows.schema)
    for at, column in enumerate(rows.schema):
        if pa.types.is_floating(column.type):
            positive = pc.add(filled[column.name], pa.scalar(0.0, column.type))  # -0.0 + 0.0 is 0.0
            filled = filled.set_column(at, column, positive)
    return filled
