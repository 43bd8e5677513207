"""Graph stores: one protocol, and the engines behind it.

A store takes assembled tables and knows no kinds of parts. ``open_store``
chooses the engine by URL: a path is the embedded store, ``neo4j://``,
``neo4j+s://``, ``bolt://`` and their kin a server. One conformance suite runs
on both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from atlas.errors import BadInput

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas.progress import Progress

__all__ = ["Graph", "Limits", "Loaded", "Param", "Params", "Store", "SyncPlan"]

Param: TypeAlias = "str | int | float | bool | list[str] | list[int] | list[float] | None"
Params: TypeAlias = Mapping[str, Param]

MAX_TIMEOUT = 1_000_000
"""Seconds, some eleven days: what every engine and system call can count in milliseconds."""


@dataclass(frozen=True)
class Graph:
    """The assembled graph of one atlas, ready to be loaded.

    Parameters
    ----------
    atlas
        The uuid of the atlas.
    name
        Its name, for messages.
    tables
        An Arrow table for every node and edge table of the schema (empty ones
        included), columns as ``schema.arrow_schema(name)`` gives them. Every
        source and target of an edge is a node of these tables.
    fingerprints
        For each SAE the hash of all sound parts that touch it.
    """

    atlas: str
    name: str
    tables: "Mapping[str, pa.Table]"
    fingerprints: Mapping[str, str]


@dataclass(frozen=True)
class Limits:
    """What one query of a user may take.

    Parameters
    ----------
    timeout
        Seconds.
    memory
        Bytes. Holds on the embedded store where the system can limit a process
        (Linux); a server has its own limit, ``db.memory.transaction.max``.
    rows
        Rows of the answer; a query that has more fails and reports so.
    """

    timeout: float = 60.0
    memory: int = 2 << 30
    rows: int = 1_000_000

    def __post_init__(self) -> None:
        """Check the numbers: to an engine, 0 means no limit at all."""
        if not 0 < self.timeout <= MAX_TIMEOUT:
            raise BadInput(
                f"The time limit of a query is {self.timeout} seconds; give more than 0 and at most "
                f"{MAX_TIMEOUT:,}."
            )
        if self.memory < 1 or self.rows < 1:
            raise BadInput(
                f"The limits of a query are {self.memory} bytes and {self.rows} rows; give at least 1."
            )


@dataclass(frozen=True)
class Loaded:
    """What a store holds of one SAE."""

    atlas: str
    fingerprint: str


@dataclass(frozen=True)
class SyncPlan:
    """What a sync would change, worked out before anything is touched.

    Parameters
    ----------
    graph
        What should be there at the end.
    add, replace, remove, keep
        Names of SAEs: new ones, those whose fingerprint differs, those the atlas
        dropped, and those that are as they should be.
    shared
        Whether edges between nodes that SAEs share, such as a model's sites, differ.
    rows
        How many nodes and edges will be written.
    seconds
        A rough estimate of the time this takes.
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
        """Whether there is anything to do."""
        return bool(self.add or self.replace or self.remove or self.shared)


class Store(Protocol):
    """A place where graphs are kept and asked."""

    url: str
    """Where it is, without the password."""

    def contents(self) -> Mapping[str, Loaded]:
        """Return what is visible: SAE name to its atlas and fingerprint."""

    def plan(self, graph: Graph) -> SyncPlan:
        """Work out what a sync would change.

        Raises
        ------
        Mismatch
            If another atlas owns an SAE of the same name.
        """

    def sync(self, plan: SyncPlan, progress: "Progress") -> None:
        """Make the store show the planned graph, one SAE swapped at a time, each whole or not at all."""

    def query(
        self, cypher: str, params: Params, *, timeout: float = 60, limits: Limits | None = None
    ) -> "pa.Table":
        """Run a reading query.

        Parameters
        ----------
        cypher
            The query; writing is refused.
        params
            A value for every ``$name`` in it, and for no other.
        timeout
            Seconds after which the query is given up.
        limits
            For a query that a user typed: limits on time (in place of ``timeout``),
            memory and rows that hold whatever the query does.

        Raises
        ------
        QueryFailed
            If the query is wrong, writes, takes too long, or has too many rows.
        """

    def table(self, name: str, sae: str | None = None) -> "pa.Table":
        """Return one node or edge table, rows in the order of their keys.

        Parameters
        ----------
        name
            A table of the schema.
        sae
            Only the rows that belong to this SAE (for an edge: that leave it).
        """

    def close(self) -> None:
        """Let go of files and connections."""
