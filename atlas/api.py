"""``Atlas``: read and query an atlas, in a folder or on a server."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

from atlas import schema
from atlas.arrow_arrays import repeated_text
from atlas.assemble import assemble, assemble_lazily, assemble_table, graph_fingerprint, rows_of
from atlas.disk.folder import Folder, Sound
from atlas.errors import BadInput, QueryFailed, RequestError, UnknownName
from atlas.named_queries import Question, named
from atlas.progress import SILENT, Progress
from atlas.safe_text import shown
from atlas.stores import Graph, Limits, Param, Store
from atlas.stores.opening import is_server, open_embedded, open_server

if TYPE_CHECKING:
    import igraph
    import networkx
    import pandas as pd
    import pyarrow as pa

    from atlas.features.card import FeatureCard
    from atlas.features.sae_view import SaeView

__all__ = ["Atlas"]

T = TypeVar("T")

# SAEs that the ``repr`` of an atlas names.
_SHOWN = 8


class Atlas:
    """An atlas, open for reading.

    It is a context manager. ``atlas["A"]`` is an SAE, and ``atlas["A/561"]`` the card of a
    feature. ``Atlas.open`` also takes the login of a server.

    Parameters
    ----------
    url
        The path of a folder, or the URL of a server without its password.
    folder
        The folder of the atlas, if it is open already.
    store
        The graph store, if it is open already. For a folder, the embedded view is built on
        first use.
    progress
        Reports progress while the embedded view is built.

    Raises
    ------
    BadInput
        If there is no atlas at the path.
    StoreUnreachable, StoreDenied
        If the server does not answer, or refuses the login.

    Examples
    --------
    >>> from atlas import Atlas
    >>> atlas = Atlas("demo.atlas")
    >>> atlas["tiny-a-l1-s0"].features["id"][0]
    'tiny-a-l1-s0/0'
    >>> atlas["tiny-a-l1-s0/7"].id
    'tiny-a-l1-s0/7'
    """

    def __init__(
        self,
        url: str | Path,
        *,
        folder: Folder | None = None,
        store: Store | None = None,
        progress: Progress = SILENT,
    ) -> None:
        if not isinstance(url, str | Path) or not str(url):
            raise BadInput(
                f"{url!r} was passed as an atlas; expected the path of its folder, or the URL of a server."
            )
        if folder is None and store is None:
            if is_server(str(url)):
                store = open_server(str(url), username=None, password=None, database=None)
                url = store.url
            else:
                folder = Folder.open(Path(url))
        self.url = str(url)
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
            Login of a server; by default ``NEO4J_USERNAME`` and ``NEO4J_PASSWORD``.
        database
            Database of a server; its default database if None.
        progress
            Reports the progress of long work.

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
        return cls(url, progress=progress)

    @property
    def saes(self) -> list[str]:
        """Sorted names of the SAEs in the atlas."""
        if self.folder is None:
            return sorted(self.store.contents())
        return self._sound().saes

    @property
    def store(self) -> Store:
        """The graph store; for a folder, the embedded view is built on first use."""
        if self._store is None:
            assert self.folder is not None
            self._store = self._read(self._view)
        return self._store

    def _view(self, sound: Sound) -> Store:
        assert self.folder is not None
        name = f"graph-{graph_fingerprint(sound)}.kuzu"
        folder = self.folder
        store = open_embedded(
            folder.cache / name,
            graph=lambda: assemble_lazily(folder, sound),
            older=[p for p in folder.cache.glob("graph-*.kuzu") if p.name != name],
            progress=self._progress,
        )
        self._drop_older_views(name)
        return store

    def graph_tables(self) -> Graph:
        """Return the assembled tables of a folder.

        Raises
        ------
        RequestError
            If the atlas is on a server, which stores no parts.
        """
        if self.folder is None:
            raise RequestError(
                f"{self.url} is a server, which stores no parts; open the folder of the atlas instead."
            )
        return self._read(self._assembled)

    def _assembled(self, sound: Sound) -> Graph:
        assert self.folder is not None
        if self._graph is None:
            self._graph = assemble(self.folder, sound)
        return self._graph

    def table(self, name: str, *, sae: str | None = None) -> "pa.Table":
        """Return one table, sorted by its keys.

        Parameters
        ----------
        name
            A node or edge table of the schema (``"Feature"``, ``"FIRES_ON"``), or a
            table that parts store outside the graph (``"histogram"``; folders only).
        sae
            Return only the rows of this SAE. Tables of shared nodes are returned complete.

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
            return self._extra_table(name, sae)
        schema.table(name)
        if self.folder is None:
            return self.store.table(name, sae)
        return rows_of(name, sae, self._read(partial(assemble_table, name)))

    def frame(self, what: str, **params: Param) -> "pd.DataFrame":
        """Return a table, or the answer of a query, as a data frame.

        A table has all columns of the schema, which are null if their study did not run;
        ``atlas["A"].features`` omits these.

        Parameters
        ----------
        what
            A table of the schema (``"Feature"``), the name of a query (``"feature_card"``), or
            Cypher.
        **params
            For a table, ``sae=`` selects the rows of one SAE. For a query, its parameters.

        Raises
        ------
        UnknownName
            If there is no such table or query.
        QueryFailed
            If the Cypher cannot be run.

        Warns
        -----
        UserWarning
            If a named query has no rows because a study never ran, or as many as its default limit;
            or if a token in its parameters is not stored.

        Examples
        --------
        >>> from atlas import Atlas
        >>> atlas = Atlas("demo.atlas")
        >>> len(atlas.frame("Feature", sae="tiny-a-l1-s0"))
        512
        >>> atlas.frame("tokens_of_feature", feature="tiny-a-l1-s0/7", limit=2)["rank"].tolist()
        [0, 1]
        >>> atlas.frame("MATCH (s:SAE) WHERE s.seed = 1 RETURN s.name AS name")["name"].tolist()
        ['tiny-a-l1-s1']
        """
        import queries

        if any(letter.isspace() for letter in what):
            table = self.query(what, params)
        elif what in queries.names():
            question = named(what, params)
            table = self.answer(question)
            self._warn(question, table.num_rows, chosen="limit" in params)
        elif set(params) <= {"sae"}:
            table = self.table(what, **params)  # type: ignore[arg-type]  # a name of any type is unknown
        elif what[:1].isupper():
            raise BadInput(f"The table {what} takes sae= only; {', '.join(params)} was passed.")
        else:
            raise UnknownName("query", what, known=queries.names())
        found: pd.DataFrame = table.to_pandas()
        return found

    def _warn(self, question: Question, rows: int, *, chosen: bool) -> None:
        """Warn of tokens that are not stored, a study that never ran, or a default limit."""
        from atlas.missing_studies import remarks_on
        from atlas.missing_tokens import missing_tokens

        found = [] if rows and chosen else remarks_on(self.store, question, rows)
        for sentence in (*found, *missing_tokens(self.store, question)):
            warnings.warn(sentence, UserWarning, stacklevel=3)

    def features(self, sae: str) -> "pa.Table":
        """Return the features of an SAE, sorted by index."""
        return self.table("Feature", sae=sae).sort_by("idx")

    def graph(
        self, sae: str, *, kind: Literal["igraph", "networkx"] = "igraph", min_count: int = 1
    ) -> "igraph.Graph | networkx.Graph[int]":
        """Return the co-activation graph of an SAE, with all properties of its nodes and edges.

        Parameters
        ----------
        sae
            Name of the SAE. Vertex i is feature i; isolated features are vertices too.
        kind
            Graph library of the result.
        min_count
            Include only edges with at least this ``count``.

        Raises
        ------
        UnknownName
            If there is no such SAE.
        BadInput
            If ``kind`` is neither of both.
        """
        from atlas import graphs

        make = {"igraph": graphs.igraph_of, "networkx": graphs.networkx_of}.get(kind)
        if make is None:
            raise BadInput(f"kind is {kind!r}; expected 'igraph' or 'networkx'.")
        return make(self, sae, min_count=min_count)

    def query(
        self,
        cypher: str,
        params: Mapping[str, Param] | None = None,
        *,
        timeout: float = 60,
        limits: Limits | None = None,
    ) -> "pa.Table":
        """Run a read-only Cypher query; on the embedded store, in a separate process.

        Parameters
        ----------
        cypher
            The query.
        params
            A value for every ``$name`` in the query.
        timeout
            Time limit in seconds.
        limits
            Limits on time, memory and rows, which replace ``timeout``; by default
            2 GiB and a million rows.

        Raises
        ------
        QueryFailed
            If the query is wrong, writes, takes too long, or has too many rows.
        """
        import queries

        if cypher.strip() in queries.names():
            raise QueryFailed(
                f"{cypher.strip()!r} is the name of a query; expected Cypher. Run it by "
                f"`atlas.ask({cypher.strip()!r}, …)`."
            )
        return self.store.query(cypher, params or {}, limits=limits or Limits(timeout=timeout))

    def ask(self, name: str, *, timeout: float = 60, **params: Param) -> "pa.Table":
        """Run one of the named queries.

        Parameters
        ----------
        name
            Name of the query; ``queries.names()`` and ``atlas query`` list them.
        timeout
            Time limit in seconds.
        **params
            Parameters of the query; missing ones take the default of the query.

        Raises
        ------
        UnknownName
            If no query has this name, or a parameter names an unknown SAE, feature, site or model.
        BadInput
            If a parameter is missing, unknown, of the wrong type, or not one of its choices; or if
            two SAEs were never matched, so that the answer is unknown.
        """
        return self.answer(named(name, params), limits=Limits(timeout=timeout))

    def answer(self, question: Question, *, limits: Limits | None = None) -> "pa.Table":
        """Answer a question: a named query, which runs in this process, or a user's Cypher.

        Parameters
        ----------
        question
            A named query with its parameters, or Cypher; see ``atlas.named_queries``.
        limits
            Limits on time, memory and rows; a named query has a time limit only.

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
        """Check that the names in a named query exist and that its SAEs were matched.

        Call this when an answer has no rows, to find out whether the question was valid.

        Parameters
        ----------
        question
            A named query with its parameters. Its header declares which parameters are names
            and which two SAEs must have been matched. A user's Cypher is not checked.

        Raises
        ------
        UnknownName
            If no SAE, feature, site or model has a name in the parameters.
        BadInput
            If two SAEs were never matched, so that the answer is unknown.
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
            self.check_matched(saes[one], saes[other])

    def _check_name(self, kind: str, name: str) -> None:
        if kind == "feature":
            self._check_feature(name)
            return
        if kind == "SAE":
            known = self.saes
        else:
            table, key = {
                "site": ("Site", "id"),
                "model": ("Model", "name"),
                "concept": ("Concept", "name"),
            }[kind]
            known = self.table(table)[key].to_pylist()
        if name not in known:
            raise UnknownName(kind, name, known=known)

    def check_matched(self, one: str, other: str) -> None:
        """Check that two SAEs were matched.

        Parameters
        ----------
        one, other
            Names of SAEs; ``other=""`` for any SAE.

        Raises
        ------
        BadInput
            If they were never matched, or are the same.
        """
        if one == other:
            raise BadInput(f"{one} is named twice; name two different SAEs.")
        pairs = self.table("COMPARED_WITH").select(["source", "target"]).to_pylist()
        found = {name for p in pairs if one in p.values() for name in p.values()} - {one}
        if other in found or (found and not other):
            return
        partner, argument = (other, other) if other else ("another SAE", "OTHER")
        then = "" if self.folder else " in the folder of the atlas, then push it again"
        raise BadInput(
            f"{one} was never matched with {partner}, so the answer is unknown; "
            f"run `atlas match {one} {argument}`{then}."
        )

    def _check_feature(self, id: str) -> None:
        sae, _, idx = id.partition("/")
        self._check_name("SAE", sae)
        count = self.store.query("MATCH (s:SAE {name: $sae}) RETURN s.d_sae AS n", {"sae": sae})[
            "n"
        ][0].as_py()
        if not idx.isdecimal() or int(idx) >= count:
            raise UnknownName(
                "feature", id, hint=f"The features of {sae} are {sae}/0 to {sae}/{count - 1}."
            )

    def close(self) -> None:
        """Close files and connections."""
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

    def __contains__(self, name: object) -> bool:
        """Return whether the atlas has an SAE of this name."""
        return name in self.saes

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the SAEs."""
        return iter(self.saes)

    def __len__(self) -> int:
        """Return the number of SAEs."""
        return len(self.saes)

    def __getitem__(self, name: str) -> "SaeView | FeatureCard":
        """Return an SAE by its name, or the card of a feature by ``sae/index``."""
        from atlas.features.card import feature_card
        from atlas.features.sae_view import SaeView

        if not isinstance(name, str):
            raise BadInput(
                f"An SAE or feature of an atlas is selected by its name, such as 'A' or 'A/561'; {name!r} was passed."
            )
        if "/" in name and name not in self.saes:
            return feature_card(self, name)
        return SaeView(self, name)

    def _ipython_key_completions_(self) -> list[str]:
        """Return what IPython suggests for ``atlas["``."""
        return self.saes

    def __str__(self) -> str:
        from atlas.cli.output.drawn_text import drawn_text
        from atlas.features.overview import print_overview

        return drawn_text(lambda: print_overview(self))

    def __repr__(self) -> str:
        more = ["…"] if len(self) > _SHOWN else []
        return f"Atlas({self.url!r}, saes=[{', '.join([*map(repr, self.saes[:_SHOWN]), *more])}])"

    def _repr_html_(self) -> str:
        columns = [
            "name",
            "model",
            "hook",
            "architecture",
            "role",
            "d_sae",
            "tokens",
            "l0",
            "fvu",
            "dead_share",
        ]
        rows = self.frame("SAE")[columns].map(lambda v: shown(v) if isinstance(v, str) else v)
        html: str = rows.to_html(index=False, escape=True, float_format="{:.3g}".format)
        return html

    def _drop_older_views(self, current: str) -> None:
        """Remove views of older parts; a process that has one open can still read it."""
        assert self.folder is not None
        from atlas.stores.kuzu.files import discard_view

        names = {p.name.partition(".kuzu")[0] for p in self.folder.cache.glob("graph-*.kuzu*")}
        for name in sorted(names - {current.partition(".kuzu")[0]}):
            with suppress(OSError):  # a shared atlas may be read-only for us
                discard_view(self.folder.cache / f"{name}.kuzu")

    def _sound(self) -> Sound:
        assert self.folder is not None
        if self._seen is None:
            self._seen = self.folder.sound()
        return self._seen

    def _read(self, work: Callable[[Sound], T]) -> T:
        """Read parts of the folder; once more, if another process replaced them meanwhile."""
        assert self.folder is not None

        def noted(sound: Sound) -> T:
            if sound is not self._seen:
                self._seen, self._graph = sound, None
            return work(sound)

        return self.folder.read(noted, seen=self._sound())

    def _extra_table(self, name: str, sae: str | None) -> "pa.Table":
        if self.folder is None:
            raise RequestError(
                f"The table {name!r} is not stored on a server; open the folder of the atlas instead."
            )
        return self._read(partial(_extra_rows, name, sae))


def _extra_rows(name: str, sae: str | None, sound: Sound) -> "pa.Table":
    """Return the rows of a table that parts store outside the graph, with the name of their part."""
    import pyarrow as pa

    parts = [p for p in sound.parts.values() if p.manifest.kind != "codes"]
    wanted = [p for p in parts if sae is None or sae in p.manifest.saes]
    found = [(p.manifest.name, p.table(name)) for p in wanted if name in p.manifest.tables]
    if not found:
        known = {t for p in parts for t in p.manifest.tables}
        raise UnknownName("table", name, known=known)
    named = [t.add_column(0, "part", repeated_text(n, t.num_rows)) for n, t in found]
    # Parts of several kinds may have a table of this name, with other columns.
    return pa.concat_tables(named, promote_options="permissive")
