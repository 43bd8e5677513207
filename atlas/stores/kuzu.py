"""The embedded store: one kuzu file, a cache that is built from a graph and then only read.

The file is built beside its place and moved into it whole, so a reader never
meets half of one and an open reader keeps what it opened. Nothing is ever
changed in it: kuzu erases tables when a transaction with a COPY is rolled back,
and building all of it takes seconds. What it holds (SAE, atlas, fingerprint) is
kept as the comment of the table ``SAE``, where no query meets it.

kuzu's pages have no checksum, and a changed byte can change an answer without an
error. So the file's SHA-256 is stored next to it (``graph-….kuzu.sum``) and checked at
open: always for files up to 64 MiB, for larger ones when size or time of change
differ. Damage to a larger file that leaves both as they were is found by
``atlas doctor``, which always reads the whole file.
"""

import errno
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas import schema
from atlas.atomic_files import sha256, write_json
from atlas.errors import AtlasError, Locked, Mismatch, OutOfRoom, QueryFailed, StoreError
from atlas.pace import Pace
from atlas.progress import SILENT, Progress
from atlas.schema import Edge, Node, Property
from atlas.stores import Graph, Limits, Loaded, Params, SyncPlan
from atlas.stores.cypher import WRITES, checked
from atlas.stores.partition import shared_edges
from atlas.stores.planning import compare
from atlas.stores.query_process import query_apart, too_many_rows, too_slow
from atlas.stores.tables import in_order, sae_column, tables

if TYPE_CHECKING:
    import kuzu
    import pyarrow as pa

__all__ = ["KuzuSettings", "KuzuStore", "discard_view"]

FORMAT = 1
ALWAYS_HASHED = 64 << 20
"""Size up to which a file is read whole at each open, in bytes: some 50 ms."""
BASE_BYTES, BYTES_PER_BYTE = 32 << 20, 3.0
"""Room a build needs: measured are 12 MiB and 2.2 to 3.0 times the bytes of the tables."""
SECONDS_A_BYTE = 0.085e-6
"""A first guess for Arrow data of any table; the pace of the first batches corrects it."""
BATCH_BYTES = 16 << 20  # of nodes in one COPY: a pace is known after the first
TYPES = {
    "string": "STRING", "int64": "INT64", "double": "DOUBLE", "bool": "BOOL",
    "string[]": "STRING[]", "double[]": "DOUBLE[]",
}  # fmt: skip


@dataclass(frozen=True)
class KuzuSettings:
    """What the embedded store may use.

    Parameters
    ----------
    buffer_pool
        Memory for its pages, in bytes; kuzu's own default would be 80% of the machine's.
    wait
        Seconds to wait for another process that builds the same file.
    """

    buffer_pool: int = 512 << 20
    wait: float = 600.0


def engine() -> Any:
    """Return the module of the engine: kuzu, or where it has no wheel the fork with its interface."""
    try:
        return importlib.import_module("kuzu")
    except ImportError:
        return importlib.import_module("ladybug")


def discard_view(path: Path) -> None:
    """Remove a view and what a build of it may have left, unless a process builds it now."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.lock", timeout=0)
    with suppress(Timeout), lock:
        for each in (path, path.with_name(f"{path.name}.new")):
            _discard(each)
        _sum_of(path).unlink(missing_ok=True)


class KuzuStore:
    """An atlas in one file, read in place.

    Made by ``KuzuStore.open``. Several processes may read the file at once.
    """

    def __init__(self, path: Path, *, settings: KuzuSettings = KuzuSettings()) -> None:
        self.url = str(path)
        self._path = path
        self._settings = settings
        self._database: kuzu.Database | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        graph: Callable[[], Graph] | None = None,
        settings: KuzuSettings = KuzuSettings(),
        progress: Progress = SILENT,
    ) -> "KuzuStore":
        """Open a file; build it first if it is not there or cannot be read.

        Parameters
        ----------
        path
            The file.
        graph
            Gives what to build it from; without it a file that is not sound is refused.
        settings
            Memory and patience.
        progress
            Told how far the building is.

        Raises
        ------
        StoreError
            If the file is missing or damaged and no graph is given.
        Locked
            If another process does not finish building it.
        OutOfRoom
            If disk or memory is full.
        """
        store = cls(path, settings=settings)
        if store._opens():
            return store
        if graph is None:
            raise StoreError(
                f"{path} is missing or damaged; open the folder of its atlas, and it is built anew."
            )
        with store._building():
            if not store._opens():  # another process may have built it meanwhile
                if path.exists():
                    progress.report(f"{path.name} is damaged or incomplete; building it again.")
                store._build(graph(), progress)
                store._database = store._read_only()
        return store

    def contents(self) -> dict[str, Loaded]:
        """Return what it holds: SAE name to its atlas and fingerprint."""
        said = self._said()
        return {} if said is None else {name: Loaded(*loaded) for name, loaded in said.items()}

    def plan(self, graph: Graph) -> SyncPlan:
        """Work out what a sync would change; whatever it is, the whole file is built anew.

        Raises
        ------
        Mismatch
            If the file is the view of another atlas.
        """
        there = self.contents()
        if foreign := sorted(n for n, loaded in there.items() if loaded.atlas != graph.atlas):
            raise Mismatch(
                f"{self.url} is the view of another atlas, which owns {', '.join(foreign)}; a file shows "
                f"one atlas. Name another file for {graph.name!r}, or rename with --as on a server."
            )
        plan = replace(compare(graph, there), shared=self._differs(graph))
        if not plan.changes:
            return plan
        rows = sum(t.num_rows for t in graph.tables.values())
        return replace(plan, rows=rows, seconds=_seconds(graph))

    def sync(self, plan: SyncPlan, progress: Progress) -> None:
        """Build the file of the planned graph and put it in place of this one."""
        if not plan.changes:
            return
        with self._building():
            self._build(plan.graph, progress)
            self.close()
            self._database = self._read_only()

    def query(
        self, cypher: str, params: Params, *, timeout: float = 60, limits: Limits | None = None
    ) -> "pa.Table":
        """Run a reading query; see ``Store.query``.

        Nodes and edges come as structs of their properties. With ``limits`` the query
        runs in a process of its own.
        """
        values = checked(cypher, params)
        if limits is not None:
            if self._database is None:
                raise StoreError(f"{self.url} is closed; open it again.")
            if (
                self._path.exists()
            ):  # files are named by their content, so it is the one opened here
                return query_apart(self._path, cypher, values, limits=limits)
        # A view that a newer one has replaced lives on in this process only.
        limits = limits or Limits(timeout=timeout, rows=sys.maxsize)
        return self.answer(cypher, values, limits=limits)

    def answer(self, cypher: str, values: Mapping[str, Any], *, limits: Limits) -> "pa.Table":
        """Run a query that ``checked`` has passed in this process, which limits its time and rows only."""
        with self._connected() as connection, self._translated(limits.timeout):
            connection.set_query_timeout(max(1, int(limits.timeout * 1000)))
            result = _answer(connection, cypher, values)
            if result.get_num_tuples() > limits.rows:
                raise QueryFailed(too_many_rows(limits.rows))
            return _plain(result)

    def table(self, name: str, sae: str | None = None) -> "pa.Table":
        """Return one node or edge table, rows in the order of their keys; see ``Store.table``."""
        of = schema.table(name)
        cypher, params = _reading(of, sae)
        with self._connected() as connection, self._translated(0):
            return in_order(of, _answer(connection, cypher, params).get_as_arrow())

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _differs(self, graph: Graph) -> bool:
        """Say whether edges between nodes that SAEs share are others than the graph's."""
        return any(
            not self.table(of.name).equals(in_order(of, graph.tables[of.name]))
            for of in shared_edges()
        )

    def _opens(self) -> bool:
        """Open the file if it is a whole one of ours.

        An empty file opens as a new database, so opening alone proves nothing.
        """
        if not self._path.is_file() or self._path.stat().st_size == 0 or not self.is_sound():
            return False
        try:
            self._database = self._read_only()
            if self._said() is not None:
                return True
        except StoreError:
            pass
        self.close()
        return False

    def is_sound(self, *, whole: bool = False) -> bool:
        """Return whether the file is the one that was built.

        Parameters
        ----------
        whole
            Read all of it, even if it is large and size and time of change are as they were.
        """
        try:
            noted = json.loads(_sum_of(self._path).read_text("utf-8"))
            now = _stamp(self._path)
            same = now == (noted["size"], noted["changed"])
            if same and not whole and now[0] > ALWAYS_HASHED:
                return True
            return bool(now[0] == noted["size"] and sha256(self._path) == noted["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _said(self) -> dict[str, list[str]] | None:
        """Return what the comment of the table SAE says; None if it is not ours."""
        with self._connected() as connection, self._translated(0):
            rows = _answer(connection, "CALL show_tables() RETURN name, comment").get_all()
        comments = [comment for name, comment in rows if name == "SAE"]
        try:
            said = json.loads(comments[0])
            return dict(said["saes"]) if said["format"] == FORMAT else None
        except (IndexError, KeyError, TypeError, ValueError):
            return None

    def _read_only(self) -> "kuzu.Database":
        return self._opened(self._path, read_only=True)

    def _opened(self, path: Path, *, read_only: bool) -> "kuzu.Database":
        with self._translated(0):
            database: kuzu.Database = engine().Database(
                str(path),
                buffer_pool_size=self._settings.buffer_pool,
                max_db_size=1
                << 38,  # address space a reader sets aside; the default, 8 TB, is much
                read_only=read_only,
            )
        return database

    @contextmanager
    def _connected(self) -> "Iterator[kuzu.Connection]":
        """Give a connection of one's own: it costs 0.3 ms, and none may be used by two threads."""
        if self._database is None:
            raise StoreError(f"{self.url} is closed; open it again.")
        connection = engine().Connection(self._database)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _building(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(f"{self._path}.lock", timeout=self._settings.wait)
        try:
            with self._writing():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                lock.acquire()
        except Timeout:
            raise Locked(
                f"Another process has been building {self._path} for more than "
                f"{self._settings.wait:.0f} seconds; wait until it ends, then try again."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _build(self, graph: Graph, progress: Progress) -> None:
        """Build the file beside its place, then move it there."""
        new = self._path.with_name(f"{self._path.name}.new")
        with self._writing():
            _discard(new)
        self._check_room(graph)
        try:
            database = self._opened(new, read_only=False)
            try:
                with self._translated(0):
                    _load(database, graph, progress)
            finally:
                database.close()
            with self._writing():
                _discard(
                    self._path, leave=self._path
                )  # a log there would be replayed into the file
                digest = sha256(new)
                os.replace(new, self._path)
                size, changed = _stamp(self._path)
                noted = {"size": size, "changed": changed, "sha256": digest}
                write_json(_sum_of(self._path), noted)
        finally:
            _discard(new)

    def _check_room(self, graph: Graph) -> None:
        """Refuse to build on a disk that is too full: kuzu ends the process when it meets that."""
        needed = BASE_BYTES + int(BYTES_PER_BYTE * sum(t.nbytes for t in graph.tables.values()))
        free = shutil.disk_usage(self._path.parent).free
        if free < needed:
            raise OutOfRoom(
                f"The embedded view {self._path} needs about {needed >> 20:,} MiB of disk while it is built, "
                f"and {free >> 20:,} MiB are free; make room and try again. The atlas itself is complete."
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what the operating system says to writing into our words."""
        try:
            yield
        except OSError as error:
            if error.errno is None:  # filelock's Timeout is one as well
                raise
            kind = OutOfRoom if error.errno == errno.ENOSPC else StoreError
            raise kind(
                f"{self._path} could not be written ({error.strerror}); it is a cache in the folder of the "
                "atlas: see that the disk has room and that you may write there."
            ) from error

    @contextmanager
    def _translated(self, timeout: float) -> Iterator[None]:
        """Turn kuzu's errors, all of which are RuntimeError, into ours."""
        try:
            yield
        except RuntimeError as error:
            raise _translation(str(error), self.url, timeout) from error


def _translation(said: str, url: str, timeout: float) -> AtlasError:
    first = said.splitlines()[0] if said else "no reason given"
    short = first.split(" expecting {")[0].partition("exception: ")[2] or first
    if "read-only database" in said:
        return QueryFailed(WRITES)
    if said.startswith("Interrupted"):
        return QueryFailed(too_slow(timeout))
    if "bad_alloc" in said or "bad allocation" in said:
        return OutOfRoom("The query needs more memory than it may use; ask for less.")
    if "buffer pool is full" in said:
        return OutOfRoom(
            f"The query or table needs more memory than the store may use ({short}) Ask for less, or "
            "raise KuzuSettings.buffer_pool."
        )
    if "No space left" in said:
        return OutOfRoom(
            f"The disk is full, so {url} could not be written; make room and try again."
        )
    damaged = (
        "not a valid Kuzu database",
        "past the end of the file",
        "storage version",
        "UNREACHABLE",
    )
    if said.startswith(("IO exception", "Cannot create")) or any(d in said for d in damaged):
        return StoreError(f"{url} cannot be read ({short}); remove it, and it is built anew.")
    return QueryFailed(f"The query failed: {short.rstrip('.')}.")


def _columns(properties: tuple[Property, ...]) -> str:
    return ", ".join(f"`{p.name}` {TYPES[p.type]}" for p in properties)


def _answer(
    connection: "kuzu.Connection", cypher: str, params: Mapping[str, Any] | None = None
) -> "kuzu.QueryResult":
    # Only a prepared query is sure to be one statement: `execute` of a text runs several.
    connection.init_connection()
    values = dict(params or {})
    prepared = engine().PreparedStatement(connection, cypher, values)
    if not prepared.is_success():
        raise RuntimeError(prepared.get_error_message())
    answer = connection.execute(prepared, values)
    if isinstance(answer, list):
        raise QueryFailed("The text holds several statements; give one query at a time.")
    return answer


def _definition(of: Node | Edge) -> str:
    if isinstance(of, Node):
        return (
            f"CREATE NODE TABLE `{of.label}` ({_columns(of.properties)}, PRIMARY KEY (`{of.key}`))"
        )
    columns = f", {_columns(of.properties)}" if of.properties else ""
    return f"CREATE REL TABLE `{of.type}` (FROM `{of.source}` TO `{of.target}`{columns})"


def _load(database: "kuzu.Database", graph: Graph, progress: Progress) -> None:
    connection = engine().Connection(database)
    pace = Pace({"copy": _seconds(graph)}, progress=progress)
    try:
        _copy(connection, graph, progress, pace=pace)
        atlas = graph.atlas
        said = {"format": FORMAT, "saes": {n: [atlas, f] for n, f in graph.fingerprints.items()}}
        text = json.dumps(said).replace("\\", "\\\\").replace("'", "\\'")
        connection.execute(f"COMMENT ON TABLE `SAE` IS '{text}'")
    finally:
        connection.close()


def _copy(connection: "kuzu.Connection", graph: Graph, progress: Progress, *, pace: Pace) -> None:
    """Create all tables and fill them; the forecast is corrected by the batches copied so far."""
    total = sum(t.num_rows for t in graph.tables.values())
    with progress.stage(f"building the store of {graph.name}", total=total, unit="rows") as stage:
        for of in tables():
            connection.execute(_definition(of))
            rows = graph.tables[of.name].select(schema.arrow_schema(of.name).names)
            for batch in _batches(rows) if isinstance(of, Node) else [rows]:
                if batch.num_rows:
                    connection.execute(f"COPY `{of.name}` FROM $rows", {"rows": _full(batch)})
                stage.advance(batch.num_rows)
                pace.lap("copy", SECONDS_A_BYTE * batch.nbytes)


def _batches(rows: "pa.Table") -> "list[pa.Table]":
    """Cut a table into batches of about ``BATCH_BYTES``."""
    number = max(1, -(-rows.nbytes // BATCH_BYTES))
    size = max(1, -(-rows.num_rows // number))
    return [rows.slice(start, size) for start in range(0, max(1, rows.num_rows), size)]


def _seconds(graph: Graph) -> float:
    """Return a rough forecast of a build."""
    return SECONDS_A_BYTE * float(sum(t.nbytes for t in graph.tables.values()))


def _full(rows: "pa.Table") -> "pa.Table":
    """Return rows without chunks that are empty: at one of them a COPY may end."""
    import pyarrow as pa

    return pa.Table.from_batches((b for b in rows.to_batches() if b.num_rows), rows.schema)


def _reading(of: Node | Edge, sae: str | None) -> tuple[str, dict[str, Any]]:
    """Return the query for a table, and its parameters."""
    if isinstance(of, Node):
        column, match, at = sae_column(of), f"MATCH (n:`{of.label}`)", "n"
        wanted = [f"n.`{p.name}` AS `{p.name}`" for p in of.properties]
    else:
        source, target = schema.node(of.source), schema.node(of.target)
        column, at = sae_column(source), "a"
        match = f"MATCH (a:`{of.source}`)-[e:`{of.type}`]->(b:`{of.target}`)"
        wanted = [f"a.`{source.key}` AS source", f"b.`{target.key}` AS target"]
        wanted += [f"e.`{p.name}` AS `{p.name}`" for p in of.properties]
    where, params = "", {}
    if sae is not None and column is not None:
        where, params = f" WHERE {at}.`{column}` = $sae", {"sae": sae}
    elif sae is not None and isinstance(of, Edge):
        where = " WHERE false"  # an edge between nodes that SAEs share leaves none of them
    return f"{match}{where} RETURN {', '.join(wanted)}", params


def _plain(result: "kuzu.QueryResult") -> "pa.Table":
    """Return kuzu's answer with the types that every store gives."""
    import pyarrow as pa

    names, kinds = result.get_column_names(), result.get_column_data_types()
    if len(set(names)) < len(names):
        raise QueryFailed("Two columns of the answer have one name; name them with AS.")
    if "RECURSIVE_REL" in kinds:
        raise QueryFailed("A path cannot be a column; return properties of its nodes and edges.")
    # kuzu allocates a whole chunk of each column at once, a million rows by default.
    data = result.get_as_arrow(min(max(1, result.get_num_tuples()), 100_000))
    try:
        columns = [_column(data[name]) for name in names]
    except pa.ArrowInvalid as error:
        raise QueryFailed(f"A number of the answer does not fit into 64 bits ({error}).") from error
    return pa.table(columns, names=names)


def _column(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    import pyarrow as pa

    if _has_struct(column.type):
        return pa.chunked_array([pa.array([_bare(v) for v in column.to_pylist()])])
    return column.cast(_type(column.type))


def _type(type: "pa.DataType") -> "pa.DataType":
    """Return the type of the schema that holds values of a type of kuzu's."""
    import pyarrow as pa

    if pa.types.is_integer(type) or (pa.types.is_decimal(type) and type.scale == 0):
        return pa.int64()  # sum() of integers is a decimal in kuzu
    if pa.types.is_floating(type) or pa.types.is_decimal(type):
        return pa.float64()
    if pa.types.is_list(type):
        return pa.list_(_type(type.value_type))
    return type


def _has_struct(type: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_struct(type) or (pa.types.is_list(type) and _has_struct(type.value_type))


def _bare(value: Any) -> Any:
    """Return a node or an edge without kuzu's own fields."""
    if isinstance(value, dict):
        return {k: _bare(v) for k, v in value.items() if not k.startswith("_")}
    return [_bare(v) for v in value] if isinstance(value, list) else value


def _sum_of(path: Path) -> Path:
    """Return the file that holds the checksum of a view."""
    return path.with_name(f"{path.name}.sum")


def _stamp(path: Path) -> tuple[int, int]:
    """Return size and time of change, which differ when a file was written to."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _discard(path: Path, *, leave: Path | None = None) -> None:
    """Remove a database file and what kuzu may have left beside it."""
    for suffix in ("", ".wal", ".shadow", ".tmp", ".wal.checkpoint"):
        beside = path.with_name(path.name + suffix)
        if beside != leave:
            beside.unlink(missing_ok=True)
