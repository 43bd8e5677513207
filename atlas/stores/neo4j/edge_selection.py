"""Select the edges of features that fit on a small server.

The *level* of an edge is its rank among the edges of its type at a feature, best first, or the
lower rank if both of its ends are features. A graph of level n has the edges with a level below
n: each feature retains its own n best edges, and those that are among the n best of a neighbour.
"""

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from atlas import schema
from atlas.errors import BadInput
from atlas.schema import Edge
from atlas.stores import Graph

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TIERS", "Capacity", "Fit", "fit_graph", "trimmed"]

Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Capacity:
    """How much a server takes.

    Parameters
    ----------
    title
        Name of the service, for messages.
    nodes, edges
        Largest number of nodes and of edges in its database.
    """

    title: str
    nodes: int
    edges: int


#: Services of Neo4j with a limited graph, by the value of ``--fit``. Their source is
#: https://neo4j.com/docs/aura/auradb/getting-started/create-database
TIERS = {"aura-free": Capacity("Aura Free", 200_000, 400_000)}

#: Co-activation edges of each feature below which other types are reduced, too.
ENOUGH = 10

#: Columns that order the edges of a type at a feature, best first; "-" for the highest first.
_ORDER: Mapping[str, tuple[str, ...]] = {
    "CO_ACTIVATES": ("-weight", "-count"),
    "MATCHES": ("-pearson",),
    "NEAR_DIRECTION": ("-cosine",),
    "AFFECTS": ("|mean|",),
    "FIRES_ON": ("rank",),
    "PROMOTES": ("rank",),
    "SUPPRESSES": ("rank",),
    "SHOWN_BY": ("example.rank", "example.kind"),
}


@dataclass(frozen=True)
class Fit:
    """A graph that fits, and what it excludes.

    Parameters
    ----------
    graph
        The graph.
    nodes, edges
        Its size.
    co_activations
        Level of the co-activation edges; None if all are retained.
    others
        Level of the other types, and largest number of examples of a feature; None if all are
        retained.
    excluded
        Number of excluded rows by table, without those that lose none.
    """

    graph: Graph
    nodes: int
    edges: int
    co_activations: int | None = None
    others: int | None = None
    excluded: Mapping[str, int] = field(default_factory=dict)


def fit_graph(graph: Graph, capacity: Capacity) -> Fit:
    """Return the largest part of a graph that fits on a server.

    If the complete graph is too large, co-activation edges are reduced first: to the highest
    level that fits. If that is below 10, all types of edges and the examples of each feature are
    reduced to the highest common level that fits, and then co-activation edges are added up to
    the highest level that fits. All SAEs and features are retained.

    Parameters
    ----------
    graph
        The graph.
    capacity
        Limits of the server.

    Raises
    ------
    BadInput
        If the graph does not fit even without these edges and examples.
    """
    levels = _Levels.of(graph)
    if levels.fit(None, None, capacity):
        return Fit(graph, *levels.size(None, None))
    best = levels.highest(lambda n: levels.fit(n, None, capacity))
    others: int | None = None
    if best is None or best < ENOUGH:
        others = levels.highest(lambda n: levels.fit(n, n, capacity))
        if others is None:
            nodes, edges = levels.size(0, 0)
            raise BadInput(
                f"{capacity.title} takes {capacity.nodes:,} nodes and {capacity.edges:,} edges, and the features "
                f"and SAEs of {graph.name!r} alone are {nodes:,} nodes and {edges:,} edges. Remove SAEs from a "
                "copy of the atlas with `atlas rm`, or use a larger server."
            )
        best = levels.highest(lambda n: levels.fit(n, others, capacity), least=others)
    assert best is not None
    selected = levels.select(graph, best, others)
    excluded = {
        name: table.num_rows - selected.tables[name].num_rows
        for name, table in graph.tables.items()
        if selected.tables[name].num_rows < table.num_rows
    }
    return Fit(selected, *levels.size(best, others), best, others, excluded)


def trimmed(graph: Graph, edges_per_feature: int) -> Graph:
    """Return the graph with only the heaviest co-activation edges of every feature.

    An edge is retained if it is among the ``edges_per_feature`` heaviest edges of at
    least one of its ends. Ties in weight go to the higher count, then to the lower
    index at the other end. A feature therefore retains its own heaviest edges, and
    also the edges that are among the heaviest of its neighbours.

    An SAE that loses edges gets a new fingerprint, computed from the old one and
    ``edges_per_feature``, so that a store replaces it.

    Parameters
    ----------
    graph
        The graph.
    edges_per_feature
        Number of edges to retain for each feature.

    Raises
    ------
    BadInput
        If ``edges_per_feature`` is negative.
    """
    if edges_per_feature < 0:
        raise BadInput(f"`edges_per_feature` is {edges_per_feature}; expected 0 or more.")
    spec = schema.edge("CO_ACTIVATES")
    retained = _edge_levels(spec, graph) < edges_per_feature
    selected = replace(
        graph,
        tables={**graph.tables, spec.type: graph.tables[spec.type].filter(retained)},
    )
    return _marked(graph, selected, f"edges_per_feature={edges_per_feature}")


@dataclass(frozen=True, eq=False)
class _Levels:
    """The level of each row that may be excluded: edges by type, examples and tokens."""

    edges: Mapping[str, Ints]
    examples: Ints
    tokens: Ints
    fixed: tuple[int, int]
    """Numbers of all other nodes and edges."""

    @classmethod
    def of(cls, graph: Graph) -> "_Levels":
        edges = {name: _edge_levels(schema.edge(name), graph) for name in _ORDER}
        tokens = [name for name in _ORDER if schema.edge(name).target == "Token"]
        nodes = sum(
            graph.tables[n.label].num_rows
            for n in schema.NODES
            if n.label not in ("Example", "Token")
        )
        others = sum(graph.tables[e.type].num_rows for e in schema.EDGES if e.type not in _ORDER)
        return cls(
            edges,
            _node_levels(graph, "Example", edges, ["SHOWN_BY"]),
            _node_levels(graph, "Token", edges, tokens),
            (nodes, others),
        )

    def size(self, co_activations: int | None, others: int | None) -> tuple[int, int]:
        """Return the number of nodes and edges of the graph of these levels."""
        nodes = sum(_below(levels, others) for levels in (self.examples, self.tokens))
        edges = sum(
            _below(levels, co_activations if name == "CO_ACTIVATES" else others)
            for name, levels in self.edges.items()
        )
        return self.fixed[0] + nodes, self.fixed[1] + edges

    def fit(self, co_activations: int | None, others: int | None, capacity: Capacity) -> bool:
        """Return whether the graph of these levels fits."""
        nodes, edges = self.size(co_activations, others)
        return nodes <= capacity.nodes and edges <= capacity.edges

    def highest(self, fits: Callable[[int], bool], *, least: int = 0) -> int | None:
        """Return the highest level that fits; None if ``least`` does not.

        A lower level fits if a higher one does.
        """
        if not fits(least):
            return None
        most = max(int(each.max(initial=-1)) for each in self.edges.values()) + 1
        beyond = bisect_left(range(least, most + 1), True, key=lambda n: not fits(n))
        return least + beyond - 1

    def select(self, graph: Graph, co_activations: int | None, others: int | None) -> Graph:
        """Return the graph of these levels, with new fingerprints of the SAEs that lose rows."""
        limits = {name: co_activations if name == "CO_ACTIVATES" else others for name in self.edges}
        levels = {**self.edges, "Example": self.examples, "Token": self.tokens}
        tables = dict(graph.tables)
        for name, each in levels.items():
            limit = limits.get(name, others)
            if limit is not None:
                tables[name] = tables[name].filter(each < limit)
        return _marked(graph, replace(graph, tables=tables), f"fit={co_activations},{others}")


def _below(levels: Ints, limit: int | None) -> int:
    return len(levels) if limit is None else int((levels < limit).sum())


def _edge_levels(spec: Edge, graph: Graph) -> Ints:
    """Return the level of each edge of a type, int64."""
    edges = graph.tables[spec.type]
    keys = [_key(name, edges, graph) for name in _ORDER[spec.type]]
    source, target = (
        _rows_of(edges["source"], graph, spec.source),
        _rows_of(edges["target"], graph, spec.target),
    )
    if spec.target != "Feature":
        return _ranks(source, keys, [target])
    # Every edge is ranked at both of its ends. Ties go to the lower index at the other end.
    near, far = np.concatenate([source, target]), np.concatenate([target, source])
    idx = np.asarray(graph.tables["Feature"]["idx"].to_numpy(), dtype=np.int64)
    ranks = _ranks(near, [np.tile(key, 2) for key in keys], [idx[far], far])
    first, second = np.split(ranks, 2)
    return np.minimum(first, second)


def _ranks(near: Ints, keys: Sequence[NDArray[np.float64]], ties: Sequence[Ints]) -> Ints:
    """Return the rank of each row among those with the same near end, by keys and then ties."""
    order = np.lexsort((*reversed(ties), *reversed(keys), near))
    ordered = near[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if near.size else ordered
    ranks = np.empty(near.size, dtype=np.int64)
    ranks[order] = np.arange(near.size) - np.repeat(begins, np.diff(np.r_[begins, near.size]))
    return ranks


def _key(name: str, edges: "pa.Table", graph: Graph) -> NDArray[np.float64]:
    """Return a column by which edges are ordered, lowest first; nulls are last."""
    if name.startswith("example."):
        examples = graph.tables["Example"]
        column = examples[name.removeprefix("example.")].take(
            _rows_of(edges["target"], graph, "Example")
        )
        if name == "example.kind":  # "top" and the fifths of the range, highest first
            kinds = column.to_pylist()
            order = {kind: i for i, kind in enumerate(sorted({*kinds} - {None}, reverse=True))}
            return np.array([order.get(kind, np.inf) for kind in kinds], dtype=np.float64)
        return np.asarray(column.to_numpy(), dtype=np.float64)
    values = np.asarray(edges[name.strip("-|")].to_numpy(), dtype=np.float64)
    values = -values if name.startswith("-") else -np.abs(values) if "|" in name else values
    return np.where(np.isnan(values), np.inf, values)


def _rows_of(keys: "pa.ChunkedArray", graph: Graph, label: str) -> Ints:
    """Return the row numbers of the nodes with some keys."""
    import pyarrow.compute as pc

    nodes = graph.tables[label]
    rows = pc.index_in(keys, value_set=nodes[schema.node(label).key].combine_chunks())
    return np.asarray(rows.to_numpy(), dtype=np.int64)


def _node_levels(graph: Graph, label: str, edges: Mapping[str, Ints], types: Sequence[str]) -> Ints:
    """Return the lowest level of an edge to each node; the highest number if there is none."""
    levels = np.full(graph.tables[label].num_rows, np.iinfo(np.int64).max)
    for name in types:
        np.minimum.at(levels, _rows_of(graph.tables[name]["target"], graph, label), edges[name])
    return levels


def _marked(graph: Graph, selected: Graph, mark: str) -> Graph:
    """Return a selected graph with new fingerprints of the SAEs that lost edges."""
    losers: set[str] = set()
    for spec in schema.EDGES:
        before, after = graph.tables[spec.type], selected.tables[spec.type]
        if after.num_rows == before.num_rows:
            continue
        for end, label in (("source", spec.source), ("target", spec.target)):
            if label == "Feature":
                lost = _counted(before[end], graph) - _counted(after[end], graph)
                losers |= {sae for sae, number in lost.items() if number}
    prints = {
        name: hashlib.sha256(f"{hash} {mark}".encode()).hexdigest() if name in losers else hash
        for name, hash in graph.fingerprints.items()
    }
    return replace(selected, fingerprints=prints)


def _counted(keys: "pa.ChunkedArray", graph: Graph) -> "Counter[str]":
    features = graph.tables["Feature"]
    return Counter(features["sae"].take(_rows_of(keys, graph, "Feature")).to_pylist())
