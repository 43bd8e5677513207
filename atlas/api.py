"""``Atlas``: one object to ask an atlas questions, whether a folder or on a server."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from atlas import schema
from atlas.assemble import assemble, assemble_table, graph_fingerprint, rows_of
from atlas.errors import BadInput, RequestError, UnknownName
from atlas.folder import Folder, Sound
from atlas.named_queries import Question, named
from atlas.progress import SILENT, Progress
from atlas.stores import Graph, Limits, Param, Store
from atlas.stores.opening import is_server, open_embedded, open_server

if TYPE_CHECKING:
    import igraph
    import networkx
    import pyarrow as pa

__all__ = ["Atlas"]


class Atlas:
    """An atlas, open for reading.

    Made by ``Atlas.open``; usable as a context manager.

    Parameters
    ----------
    url
        Where it is: a path, or the URL of a server without its password.
    folder
        Its folder; None on a server.
    store
        Its store; None for a folder whose embedded view has not been needed yet.
    progress
        Told how far the building of the embedded view is.
    """

    def __init__(
        self,
        url: str,
        *,
        folder: Folder | None = None,
        store: Store | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.url = url
        self.folder = folder
        self._store = store
        self._progress = progress
        self._seen: Sound | None = None
        self._graph: Graph | None = None

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        username: str | None = None,
        password: str | None = None,
        database: str | None = None,
        progress: Progress = SILENT,
    ) -> "Atlas":
        """Open an atlas.

        Parameters
        ----------
        url
            The path of a folder, or ``neo4j://…``, ``neo4j+s://…``, ``bolt://…``.
        username, password
            For a server; from ``NEO4J_USERNAME`` and ``NEO4J_PASSWORD`` if not given.
        database
            For a server: which database, its default one if not given.
        progress
            Told how far long work is.

        Raises
        ------
        BadInput
            If there is no atlas at the path.
        StoreUnreachable, StoreDenied
            If the server does not answer, or refuses the login.
        """
        if is_server(str(url)):
            store = open_server(str(url), username=username, password=password, database=database)
            return cls(store.url, store=store, progress=progress)
        return cls(str(url), folder=Folder.open(Path(url)), progress=progress)

    @property
    def saes(self) -> list[str]:
        """The names of the SAEs in it."""
        if self.folder is None:
            return sorted(self.store.contents())
        return self._sound().saes

    @property
    def store(self) -> Store:
        """The graph store; a folder's embedded view is built at the first use."""
        if self._store is None:
            assert self.folder is not None
            name = f"graph-{graph_fingerprint(self._sound())}.kuzu"
            self._store = open_embedded(
                self.folder.cache / name, graph=self.graph_tables, progress=self._progress
            )
            self._drop_older_views(name)
        return self._store

    def graph_tables(self) -> Graph:
        """Return the assembled tables of a folder.

        Raises
        ------
        RequestError
            If the atlas is open on a server, which keeps no parts.
        """
        if self.folder is None:
            raise RequestError(
                f"{self.url} is a server; the parts lie in the folder of the atlas. Open that folder."
            )
        if self._graph is None:
            self._graph = assemble(self.folder, self._sound())
        return self._graph

    def table(self, name: str, *, sae: str | None = None) -> "pa.Table":
        """Return one table, rows in the order of their keys.

        Parameters
        ----------
        name
            A node or edge table of the schema (``"Feature"``, ``"FIRES_ON"``), or a
            table that parts keep beside the graph (``"histogram"``; folders only).
        sae
            Only the rows that belong to this SAE. Nodes that SAEs share are given whole.

        Raises
        ------
        UnknownName
            If there is no such table or SAE.
        """
        if sae is not None and sae not in self.saes:
            raise UnknownName(
                "SAE", sae, known=self.saes, hint=f"`atlas list` shows what {self.url} holds."
            )
        if name[:1].islower():
            return self._beside(name, sae)
        schema.table(name)
        if self.folder is None:
            return self.store.table(name, sae)
        return rows_of(name, sae, assemble_table(name, self._sound()))

    def features(self, sae: str) -> "pa.Table":
        """Return the features of an SAE, in the order of their index."""
        return self.table("Feature", sae=sae).sort_by("idx")

    def graph(
        self, sae: str, *, kind: Literal["igraph", "networkx"] = "igraph", min_count: int = 1
    ) -> "igraph.Graph | networkx.Graph[int]":
        """Return the co-activation graph of an SAE, with all properties of its nodes and edges.

        Parameters
        ----------
        sae
            The SAE's name. Vertex i is feature i; features without an edge are vertices too.
        kind
            The library whose graph it is.
        min_count
            Only edges with at least this ``count``.

        Raises
        ------
        UnknownName
            If there is no such SAE.
        """
        from atlas import graphs

        make = graphs.igraph_of if kind == "igraph" else graphs.networkx_of
        return make(self, sae, min_count=min_count)

    def query(
        self,
        cypher: str,
        params: Mapping[str, Param] | None = None,
        *,
        timeout: float = 60,
        limits: Limits | None = None,
    ) -> "pa.Table":
        """Run a reading Cypher query, on the embedded store in a process of its own.

        Parameters
        ----------
        cypher
            The query.
        params
            A value for every ``$name`` in it.
        timeout
            Seconds after which it is given up.
        limits
            Seconds, memory and rows it may take, in place of ``timeout``; by default
            2 GiB and a million rows.

        Raises
        ------
        QueryFailed
            If the query is wrong, writes, takes too long, or has too many rows.
        """
        return self.store.query(cypher, params or {}, limits=limits or Limits(timeout=timeout))

    def ask(self, name: str, *, timeout: float = 60, **params: Param) -> "pa.Table":
        """Run one of the named queries.

        Parameters
        ----------
        name
            Its name; ``queries.names()`` and ``atlas query`` list them.
        timeout
            Seconds after which it is given up.
        **params
            Its parameters; those left out take the default the query states.

        Raises
        ------
        UnknownName
            If there is no query of this name, or nothing of a name in its parameters.
        BadInput
            If a parameter is missing, unknown, of the wrong type, or none of its choices; or if
            the answer is not known, because two SAEs were never matched.
        """
        return self.answer(named(name, params), limits=Limits(timeout=timeout))

    def answer(self, question: Question, *, limits: Limits | None = None) -> "pa.Table":
        """Answer a question: a named query, which runs in this process, or Cypher of a user.

        Parameters
        ----------
        question
            What ``atlas.named_queries`` made of a name and its parameters, or of a query.
        limits
            Seconds, memory and rows it may take; a named query has a limit on time only.

        Raises
        ------
        QueryFailed
            As ``query`` does.
        UnknownName, BadInput
            As ``ask`` does.
        """
        limits = limits or Limits()
        if question.query is None:
            return self.query(question.cypher, question.params, limits=limits)
        answer = self.store.query(question.cypher, question.params, timeout=limits.timeout)
        if not answer.num_rows:
            self.check_names(question)
        return answer

    def check_names(self, question: Question) -> None:
        """Tell an answer that has no rows from a question that cannot be answered.

        Parameters
        ----------
        question
            A named query, filled in: its header says which parameters are names, and which
            two SAEs must have been matched. Cypher of one's own passes.

        Raises
        ------
        UnknownName
            If there is no SAE, feature, site or model of a name given.
        BadInput
            If nothing is known of two SAEs, because they were never matched.
        """
        if question.query is None:
            return
        saes: dict[str, str] = {}
        for parameter in question.query.parameters:
            value = question.params[parameter.name]
            if parameter.names is not None and isinstance(value, str):
                saes[parameter.name] = value.partition("/")[0]
                if value:
                    self._check_name(parameter.names, value)
        for one, other in question.query.matched:
            self._check_matched(saes[one], saes[other])

    def _check_name(self, kind: str, name: str) -> None:
        if kind == "feature":
            self._check_feature(name)
            return
        if kind == "SAE":
            known = self.saes
        else:
            table, key = {"site": ("Site", "id"), "model": ("Model", "name")}[kind]
            known = self.table(table)[key].to_pylist()
        if name not in known:
            raise UnknownName(kind, name, known=known)

    def _check_matched(self, one: str, other: str) -> None:
        """Raise BadInput unless the one was matched with the other; ``""``: with any."""
        if one == other:
            raise BadInput(f"{one} was named twice; an SAE is not matched with itself.")
        cypher = "MATCH (s:SAE {name: $one})-[:COMPARED_WITH]-(o:SAE) RETURN o.name AS name"
        found = self.store.query(cypher, {"one": one})["name"].to_pylist()
        if other in found or (found and not other):
            return
        whom, what = (other, other) if other else ("another SAE", "OTHER")
        then = "" if self.folder else ", in the folder of the atlas; then push it again"
        raise BadInput(
            f"{one} was never matched with {whom}, so what they have in common is not known; "
            f"match them: `atlas match {one} {what}`{then}."
        )

    def _check_feature(self, id: str) -> None:
        sae, _, idx = id.partition("/")
        self._check_name("SAE", sae)
        count = self.store.query("MATCH (s:SAE {name: $sae}) RETURN s.d_sae AS n", {"sae": sae})[
            "n"
        ][0].as_py()
        if not idx.isdecimal() or int(idx) >= count:
            raise UnknownName(
                "feature", id, hint=f"Those of {sae} are {sae}/0 to {sae}/{count - 1}."
            )

    def close(self) -> None:
        """Let go of files and connections."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def __enter__(self) -> "Atlas":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Atlas({self.url!r}, saes={self.saes})"

    def _drop_older_views(self, current: str) -> None:
        """Remove views of parts that are no longer so; who has one open keeps it."""
        assert self.folder is not None
        from atlas.stores.kuzu import discard_view

        files = [p.name for p in self.folder.cache.glob("graph-*.kuzu*") if p.suffix != ".lock"]
        names = {name.partition(".kuzu")[0] for name in files}
        for name in sorted(names - {current.partition(".kuzu")[0]}):
            with suppress(OSError):  # a shared atlas may be read-only for us
                discard_view(self.folder.cache / f"{name}.kuzu")

    def _sound(self) -> Sound:
        assert self.folder is not None
        if self._seen is None:
            self._seen = self.folder.sound()
        return self._seen

    def _beside(self, name: str, sae: str | None) -> "pa.Table":
        import pyarrow as pa

        if self.folder is None:
            raise RequestError(
                f"The table {name!r} is kept in the folder of the atlas, not on a server."
            )
        parts = [p for p in self._sound().parts.values() if p.manifest.kind != "codes"]
        wanted = [p for p in parts if sae is None or sae in p.manifest.saes]
        found = [(p.manifest.name, p.table(name)) for p in wanted if name in p.manifest.tables]
        if not found:
            known = {t for p in parts for t in p.manifest.tables}
            raise UnknownName("table", name, known=known)
        named = [t.add_column(0, "part", pa.array([n] * t.num_rows, pa.string())) for n, t in found]
        # Parts of several kinds may have a table of this name, with other columns.
        return pa.concat_tables(named, promote_options="permissive")
