"""Graph stores: one protocol with an embedded and a server implementation.

A store receives assembled tables and does not depend on kinds of parts. ``open_store``
chooses the engine by URL: a path means the embedded store, and ``neo4j://``,
``neo4j+s://`` or ``bolt://`` a server. The same conformance tests run on both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from atlas.errors import BadInput

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas.progress import Progress

__all__ = ["Graph", "Limits", "Param", "Params", "Store", "StoredSae", "SyncPlan"]

Param: TypeAlias = "str | int | float | bool | list[str] | list[int] | list[float] | None"
Params: TypeAlias = Mapping[str, Param]

MAX_TIMEOUT = 1_000_000
"""Largest time limit in seconds (11 days), which all engines can count in milliseconds."""


@dataclass(frozen=True)
class Graph:
    """The assembled graph of one atlas, ready to be loaded.

    Parameters
    ----------
    atlas
        The uuid of the atlas.
    name
        Name of the atlas, for messages.
    tables
        An Arrow table for every node and edge table of the schema, including empty
        ones, with the columns of ``schema.arrow_schema(name)``. Every source and target
        of an edge is a node of these tables.
    fingerprints
        For each SAE, the hash of all its sound parts.
    models
        For each model, the chain of digests of its parameters; see ``docs/format.md``. A
        model of an older atlas has none.
    sources
        For each table, a hash of the parts that it is joined from; empty if they are unknown.
        Tables of equal sources are equal.
    """

    atlas: str
    name: str
    tables: "Mapping[str, pa.Table]"
    fingerprints: Mapping[str, str]
    models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """Limits of one user query.

    Parameters
    ----------
    timeout
        Seconds.
    memory
        Bytes. Applies to the embedded store where the system can limit a process
        (Linux); a server has its own limit, ``db.memory.transaction.max``.
    rows
        Maximum rows of the answer; a query with more rows fails.
    """

    timeout: float = 60.0
    memory: int = 2 << 30
    rows: int = 1_000_000

    def __post_init__(self) -> None:
        """Check the numbers, because an engine takes 0 for no limit."""
        if not 0 < self.timeout <= MAX_TIMEOUT:
            raise BadInput(
                f"The time limit of a query is {self.timeout} seconds; expected more than 0 and at most "
                f"{MAX_TIMEOUT:,}."
            )
        if self.memory < 1 or self.rows < 1:
            raise BadInput(
                f"The limits of a query are {self.memory} bytes and {self.rows} rows; expected at least 1."
            )


@dataclass(frozen=True)
class StoredSae:
    """The version of an SAE that a store shows: its atlas and fingerprint."""

    atlas: str
    fingerprint: str


@dataclass(frozen=True)
class SyncPlan:
    """The changes of a sync, computed before anything is written.

    Parameters
    ----------
    graph
        The graph that the store shows after the sync.
    add, replace, remove, keep
        Names of SAEs: new ones, changed ones (their fingerprint differs), removed ones,
        and unchanged ones.
    shared
        Whether edges between shared nodes, such as maps between sites, differ.
    rows
        Number of nodes and edges to write.
    seconds
        Rough forecast of the duration.
    """

    graph: Graph
    add: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    shared: bool = False
    rows: int = 0
    seconds: float = field(default=0.0)

    @property
    def changes(self) -> bool:
        """Whether the sync changes anything."""
        return bool(self.add or self.replace or self.remove or self.shared)


class Store(Protocol):
    """A database that stores graphs and answers queries."""

    url: str
    """Path or URL, without the password."""

    def contents(self) -> Mapping[str, StoredSae]:
        """Return the atlas and fingerprint of each SAE that the store shows, by SAE name."""

    def plan(self, graph: Graph) -> SyncPlan:
        """Compute the changes of a sync.

        Raises
        ------
        Mismatch
            If another atlas owns an SAE of the same name.
        """

    def sync(self, plan: SyncPlan, progress: "Progress") -> None:
        """Write the planned graph, one SAE at a time; each SAE is swapped atomically."""

    def query(
        self, cypher: str, params: Params, *, timeout: float = 60, limits: Limits | None = None
    ) -> "pa.Table":
        """Run a read-only query.

        Parameters
        ----------
        cypher
            The query; a query that writes is refused.
        params
            A value for every ``$name`` in the query, and no others.
        timeout
            Time limit in seconds.
        limits
            For a user's query: enforced limits on time (instead of ``timeout``), memory
            and rows.

        Raises
        ------
        QueryFailed
            If the query is wrong, writes, takes too long, or has too many rows.
        """

    def table(self, name: str, sae: str | None = None) -> "pa.Table":
        """Return one node or edge table, sorted by its keys.

        Parameters
        ----------
        name
            A table of the schema.
        sae
            Return only the rows of this SAE; for edges, those whose source belongs to it.
        """

    def close(self) -> None:
        """Close files and connections."""
