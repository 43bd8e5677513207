"""The embedded store: one kuzu file, a read-only cache that is built from a graph.

The file is built under a temporary name and then renamed. A reader never sees an
incomplete file, and an open reader continues to read the old one. A file is never
modified, because kuzu erases tables when a transaction with a COPY is rolled back; after a
study, a copy of the older file is updated instead of a complete build. A child process writes
it, because a full disk may end that process. The contents (SAE, atlas, fingerprint) are stored
in the comment of the table ``SAE``, which queries do not see.

kuzu's pages have no checksum, so a changed byte can change an answer without an error.
The SHA-256 of the file is therefore stored next to it (``graph-….kuzu.sum``). Opening
verifies it, for files above 64 MiB only if size or modification time differ.
``atlas doctor`` always verifies it.
"""

import errno
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from atlas import schema
from atlas.disk.atomic_files import atomic_file, sha256, write_json
from atlas.errors import Locked, Mismatch, OutOfSpace, QueryFailed, StoreError
from atlas.progress import SILENT, Progress
from atlas.schema import Edge, Node
from atlas.stores import Graph, Limits, Params, StoredSae, SyncPlan
from atlas.stores.cypher import checked
from atlas.stores.cypher_names import check_names
from atlas.stores.kuzu.build import FORMAT, Builder, builder, check_space, seconds
from atlas.stores.kuzu.engine import engine, open_database, translation
from atlas.stores.kuzu.faults.refused import check_faults
from atlas.stores.kuzu.faults.rewrites import headings, rewritten, typed_columns
from atlas.stores.kuzu.files import (
    discard_database,
    discard_unfinished,
    lock_of,
    remove_lock,
    stamp,
    sum_of,
    unfinished,
)
from atlas.stores.kuzu.update import MAX_UPDATES, Update, is_updated, plan_update
from atlas.stores.partition import in_order, sae_column, shared_edges
from atlas.stores.planning import compare
from atlas.stores.query_process import query_in_subprocess, too_many_rows

if TYPE_CHECKING:
    import kuzu
    import pyarrow as pa

__all__ = ["KuzuSettings", "KuzuStore"]

ALWAYS_HASHED = 64 << 20
"""Size in bytes up to which each open verifies the checksum, which takes about 50 ms."""


@dataclass(frozen=True)
class KuzuSettings:
    """Resource limits of the embedded store.

    Parameters
    ----------
    buffer_pool
        Memory for pages, in bytes; kuzu's default is 80% of the machine's memory.
    wait
        Seconds to wait for another process that builds the same file.
    """

    buffer_pool: int = 512 << 20
    wait: float = 600.0


class KuzuStore:
    """The graph of an atlas in one kuzu file.

    Create one with ``KuzuStore.open``. Several processes can read the file at once.
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
        older: Sequence[Path] = (),
        settings: KuzuSettings = KuzuSettings(),
        progress: Progress = SILENT,
    ) -> "KuzuStore":
        """Open a file; build it first if it is missing or cannot be read.

        Parameters
        ----------
        path
            The file.
        graph
            Returns the graph to build from; if None, a missing or damaged file is an error.
        older
            Views of older parts of the same atlas. A copy of one is updated where that suffices
            (see ``atlas.stores.kuzu.update``); otherwise the file is built completely.
        settings
            Limits on memory and waiting time.
        progress
            Reports the progress of the build.

        Raises
        ------
        StoreError
            If the file is missing or damaged and ``graph`` is None.
        Locked
            If another process does not finish building it.
        OutOfSpace
            If disk or memory is full.
        """
        store = cls(path, settings=settings)
        if store._opens():
            return store
        if graph is None:
            raise StoreError(
                f"{path} is missing or damaged; open the folder of its atlas to build it again."
            )
        with store._building():
            if not store._opens():  # another process may have built it meanwhile
                if path.exists():
                    progress.report(f"{path.name} is damaged or incomplete and is built again.")
                store._write(graph, older, progress)
                store._database = store._read_only()
        return store

    def _write(self, graph: Callable[[], Graph], older: Sequence[Path], progress: Progress) -> None:
        """Write the file: update a copy of an older view if possible, else build it."""
        with self._builder() as child:
            found = graph()
            if self._updates(child, found, older, progress):
                return
            if child.is_unused:
                self._build(child, found, progress)
                return
        with self._builder() as child:  # the update failed
            self._build(child, found, progress)

    def _updates(
        self, child: Builder, graph: Graph, older: Sequence[Path], progress: Progress
    ) -> bool:
        """Write the file as an updated copy of an older view; return False if that failed."""
        for path in older:
            old = KuzuStore(path, settings=self._settings)
            try:
                record = old._record() if old._opens() else {}
                updates = int(record.get("updates", MAX_UPDATES)) + 1
                if updates > MAX_UPDATES:
                    continue
                update = plan_update(old, record["sources"], graph)
                if update is None:
                    continue
                with self._temporary() as new:
                    copyfile(path, new)
                    if not old._is_copied_to(new):
                        continue
                    child.update(new, graph, update, updates=updates, progress=progress)
                    if not self._is_updated(new, graph, update):
                        return False
                    with self._writing():
                        self._replace_by(new)
                return True
            except (StoreError, OutOfSpace, OSError):
                return False  # the complete build reports the reason if it persists
            finally:
                old.close()
        return False

    def _is_copied_to(self, copy: Path) -> bool:
        """Return whether a copy of the file has the checksum of the file when it was built."""
        try:
            return bool(sha256(copy) == _stored_sum(self._path)["sha256"])
        except (ValueError, KeyError, TypeError):
            return False

    def _is_updated(self, path: Path, graph: Graph, update: Update) -> bool:
        new = KuzuStore(path, settings=self._settings)
        new._database = new._read_only()
        try:
            return is_updated(new, graph, update)
        finally:
            new.close()

    def rows(self, name: str) -> int:
        """Return the number of rows of a table."""
        spec = schema.table(name)
        match = f"(n:`{name}`)" if isinstance(spec, Node) else f"()-[n:`{name}`]->()"
        with self._connected() as connection, self._translated(0):
            answer = _answer(connection, f"MATCH {match} RETURN count(n) AS n").get_as_arrow()
        return int(answer["n"][0].as_py())

    def contents(self) -> dict[str, StoredSae]:
        """Return the atlas and fingerprint of each SAE, by SAE name."""
        stored = self._stored_saes()
        return (
            {} if stored is None else {name: StoredSae(*loaded) for name, loaded in stored.items()}
        )

    def plan(self, graph: Graph) -> SyncPlan:
        """Compute the changes of a sync; any change rebuilds the complete file.

        Raises
        ------
        Mismatch
            If the file is the view of another atlas.
        """
        current = self.contents()
        if foreign := sorted(n for n, loaded in current.items() if loaded.atlas != graph.atlas):
            raise Mismatch(
                f"{self.url} is the view of another atlas, which owns {', '.join(foreign)}; a file stores "
                f"one atlas. Use another file for {graph.name!r}, or push to a server with other `names`."
            )
        plan = replace(compare(graph, current), shared=self._shared_edges_differ(graph))
        if not plan.changes:
            return plan
        rows = sum(t.num_rows for t in graph.tables.values())
        return replace(plan, rows=rows, seconds=seconds(graph))

    def sync(self, plan: SyncPlan, progress: Progress) -> None:
        """Build the file of the planned graph and replace this one."""
        if not plan.changes:
            return
        with self._building(), self._builder() as child:
            self._build(child, plan.graph, progress)
            self.close()
            self._database = self._read_only()

    def query(
        self, cypher: str, params: Params, *, timeout: float = 60, limits: Limits | None = None
    ) -> "pa.Table":
        """Run a read-only query; see ``Store.query``.

        Nodes and edges are returned as structs of their properties. With ``limits`` the
        query runs in a separate process.
        """
        values = checked(cypher, params)
        check_names(cypher)
        check_faults(cypher, values)
        if limits is not None:
            if self._database is None:
                raise StoreError(f"{self.url} is closed; open it again.")
            # Files are named by their content, so this is still the opened one.
            if self._path.exists():
                return query_in_subprocess(self._path, cypher, values, limits=limits)
        # Only this process can still read a view that a newer one has replaced.
        limits = limits or Limits(timeout=timeout, rows=sys.maxsize)
        return self.answer(cypher, values, limits=limits)

    def answer(self, cypher: str, values: Mapping[str, Any], *, limits: Limits) -> "pa.Table":
        """Run a checked query in this process, with limits on time and rows only."""
        with self._connected() as connection, self._translated(limits.timeout, cypher):
            connection.set_query_timeout(max(1, int(limits.timeout * 1000)))
            text = rewritten(cypher, values)
            result = _answer(connection, text, values, written=cypher)
            if result.get_num_tuples() > limits.rows:
                raise QueryFailed(too_many_rows(limits.rows))
            table = _plain(result)
            table = table.select(typed_columns(cypher, table.column_names))
            return table.rename_columns(headings(cypher, table.column_names))

    def table(self, name: str, sae: str | None = None) -> "pa.Table":
        """Return one node or edge table, sorted by its keys; see ``Store.table``."""
        spec = schema.table(name)
        cypher, params = _reading(spec, sae)
        with self._connected() as connection, self._translated(0):
            return in_order(spec, _answer(connection, cypher, params).get_as_arrow())

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _shared_edges_differ(self, graph: Graph) -> bool:
        """Return whether edges between shared nodes differ from those of the graph."""
        return any(
            not self.table(spec.name).equals(in_order(spec, graph.tables[spec.name]))
            for spec in shared_edges()
        )

    def _opens(self) -> bool:
        """Open the file; return False if it is not a complete view.

        kuzu opens an empty file as a new database, so further checks are needed.
        """
        if not self._path.is_file() or self._path.stat().st_size == 0 or not self.is_sound():
            return False
        try:
            self._database = self._read_only()
            if self._stored_saes() is not None:
                return True
        except StoreError:
            pass
        self.close()
        return False

    def is_sound(self, *, complete: bool = False) -> bool:
        """Return whether the file is unchanged since it was built.

        Parameters
        ----------
        complete
            Verify the checksum even of a large file whose size and modification time match.
        """
        try:
            stored = _stored_sum(self._path)
            now = stamp(self._path)
            same = now == (stored["size"], stored["changed"])
            if same and not complete and now[0] > ALWAYS_HASHED:
                return True
            return bool(now[0] == stored["size"] and sha256(self._path) == stored["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _stored_saes(self) -> dict[str, list[str]] | None:
        """Return the contents that the comment of the table SAE stores; None if it is invalid."""
        try:
            record = self._record()
            return dict(record["saes"]) if record["format"] == FORMAT else None
        except (IndexError, KeyError, TypeError, ValueError):
            return None

    def _record(self) -> dict[str, Any]:
        """Return what the comment of the table SAE stores."""
        with self._connected() as connection, self._translated(0):
            rows = _answer(connection, "CALL show_tables() RETURN name, comment").get_all()
        comments = [comment for name, comment in rows if name == "SAE"]
        record: dict[str, Any] = json.loads(comments[0])
        return record

    def _read_only(self) -> "kuzu.Database":
        with self._translated(0):
            return open_database(self._path, buffer_pool=self._settings.buffer_pool, read_only=True)

    @contextmanager
    def _connected(self) -> "Iterator[kuzu.Connection]":
        """Yield a new connection, which takes 0.3 ms; threads must not share one."""
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

        lock = FileLock(lock_of(self._path), timeout=self._settings.wait)
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
            # Whoever waits for the lock, or takes a new one, then finds the file complete.
            remove_lock(self._path)
        finally:
            lock.release()

    def _builder(self) -> AbstractContextManager[Builder]:
        return builder(self._path, buffer_pool=self._settings.buffer_pool)

    def _build(self, child: Builder, graph: Graph, progress: Progress) -> None:
        """Build the file in a temporary folder, then rename it."""
        with self._writing():
            check_space(self._path, graph)
        with self._temporary() as new:
            child.build(new, graph, progress)
            with self._writing():
                self._replace_by(new)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """Yield the path of a new file in a temporary folder, which is removed at the end."""
        with self._writing():
            discard_unfinished(self._path)
            # The folder has a new name, because the child of a killed process may still write.
            folder = TemporaryDirectory(
                prefix=f"{unfinished(self._path)}-",
                dir=self._path.parent,
                ignore_cleanup_errors=True,
            )
        with folder:
            yield Path(folder.name) / self._path.name

    def _replace_by(self, new: Path) -> None:
        """Rename a complete file to the name of this one, after its checksum is stored."""
        size, changed = stamp(new)
        stored = {"size": size, "changed": changed, "sha256": sha256(new)}
        try:
            write_json(sum_of(self._path), stored)
            with atomic_file(self._path) as temporary:
                new.rename(temporary)
                # A log there would be replayed into the file.
                discard_database(self._path, leave=self._path)
        except BaseException:
            if not self._path.exists():
                sum_of(self._path).unlink(missing_ok=True)
            raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Translate errors of the operating system while writing."""
        try:
            yield
        except OSError as error:
            if error.errno is None:  # filelock's Timeout is one as well
                raise
            kind = OutOfSpace if error.errno == errno.ENOSPC else StoreError
            raise kind(
                f"{self._path}, a cache in the folder of the atlas, could not be written ({error.strerror}); "
                "check free disk space and write permissions."
            ) from error

    @contextmanager
    def _translated(self, timeout: float, cypher: str = "") -> Iterator[None]:
        """Translate kuzu's errors, all of which are RuntimeError."""
        try:
            yield
        except RuntimeError as error:
            raise translation(str(error), self.url, timeout, cypher=cypher) from error


def _stored_sum(path: Path) -> dict[str, Any]:
    """Return size, modification time and SHA-256 of a view, as stored when it was built."""
    stored: dict[str, Any] = json.loads(sum_of(path).read_text("utf-8"))
    return stored


def _answer(
    connection: "kuzu.Connection",
    cypher: str,
    params: Mapping[str, Any] | None = None,
    *,
    written: str = "",
) -> "kuzu.QueryResult":
    """Run one statement; an error of a rewritten one is that of the query as it was ``written``."""
    # Preparing allows only one statement, while `execute` of a text runs several.
    connection.init_connection()
    values = dict(params or {})
    prepared = engine().PreparedStatement(connection, cypher, values)
    if not prepared.is_success():
        if written not in ("", cypher):  # its positions are those that the author knows
            of_author = engine().PreparedStatement(connection, written, values)
            prepared = prepared if of_author.is_success() else of_author
        raise RuntimeError(prepared.get_error_message())
    answer = connection.execute(prepared, values)
    if isinstance(answer, list):
        raise QueryFailed("The text has several statements; run one query at a time.")
    return answer


def _reading(spec: Node | Edge, sae: str | None) -> tuple[str, dict[str, Any]]:
    """Return the query that reads a table, and its parameters."""
    if isinstance(spec, Node):
        column, match, at = sae_column(spec), f"MATCH (n:`{spec.label}`)", "n"
        wanted = [f"n.`{p.name}` AS `{p.name}`" for p in spec.properties]
    else:
        source, target = schema.node(spec.source), schema.node(spec.target)
        column, at = sae_column(source), "a"
        match = f"MATCH (a:`{spec.source}`)-[e:`{spec.type}`]->(b:`{spec.target}`)"
        wanted = [f"a.`{source.key}` AS source", f"b.`{target.key}` AS target"]
        wanted += [f"e.`{p.name}` AS `{p.name}`" for p in spec.properties]
    where, params = "", {}
    if sae is not None and column is not None:
        where, params = f" WHERE {at}.`{column}` = $sae", {"sae": sae}
    elif sae is not None and isinstance(spec, Edge):
        where = " WHERE false"  # an edge between shared nodes belongs to no SAE
    return f"{match}{where} RETURN {', '.join(wanted)}", params


def _plain(result: "kuzu.QueryResult") -> "pa.Table":
    """Convert kuzu's answer to the types that all stores return."""
    import pyarrow as pa

    names, kinds = result.get_column_names(), result.get_column_data_types()
    if len(set(names)) < len(names):
        raise QueryFailed("Two columns of the answer have the same name; rename one with AS.")
    if "RECURSIVE_REL" in kinds:
        raise QueryFailed("A path cannot be a column; return properties of its nodes and edges.")
    # kuzu allocates one chunk per column in advance, a million rows by default.
    data = result.get_as_arrow(min(max(1, result.get_num_tuples()), 100_000))
    try:
        columns = [_column(data[name]) for name in names]
    except pa.ArrowInvalid as error:
        raise QueryFailed(
            f"A number of the answer does not fit into 64 bits ({error}); convert it in the query."
        ) from error
    return pa.table(columns, names=[_heading(name) for name in names])


def _heading(name: str) -> str:
    """Return the heading of a column without an alias as its author wrote it."""
    if name == "COUNT_STAR()":
        return "count(*)"
    label = re.fullmatch(r"LABEL\((\w+)\._ID,\[.*\]\)", name)
    return f"label({label[1]})" if label else name


def _column(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    import pyarrow as pa

    if _has_struct(column.type):
        return pa.chunked_array([pa.array([_bare(v) for v in column.to_pylist()])])
    return column.cast(_type(column.type))


def _type(type: "pa.DataType") -> "pa.DataType":
    """Return the schema type for a kuzu type."""
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
    """Return a node or an edge without kuzu's internal fields."""
    if isinstance(value, dict):
        return {k: _bare(v) for k, v in value.items() if not k.startswith("_")}
    return [_bare(v) for v in value] if isinstance(value, list) else value
