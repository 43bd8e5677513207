"""Select the co-activation edges for a small server (``atlas push --edges-per-feature``)."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from atlas.errors import BadInput
from atlas.stores import Graph

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["trimmed"]


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
        raise BadInput(f"--edges-per-feature is {edges_per_feature}; give 0 or more.")
    edges, features = graph.tables["CO_ACTIVATES"], graph.tables["Feature"]
    ends = _ends(edges, features)
    retained = _heaviest(edges, ends, _numbers(features["idx"]), edges_per_feature)
    saes = features["sae"].take(ends[0][~retained]).unique().to_pylist()
    return replace(
        graph,
        tables={**graph.tables, "CO_ACTIVATES": edges.filter(retained)},
        fingerprints=_marked(graph.fingerprints, saes, edges_per_feature),
    )


def _ends(
    edges: "pa.Table", features: "pa.Table"
) -> "tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]":
    """Return the row numbers of the source and target feature of each edge."""
    import pyarrow.compute as pc

    known = features["id"].combine_chunks()
    return tuple(_numbers(pc.index_in(edges[end], value_set=known)) for end in ("source", "target"))


def _heaviest(
    edges: "pa.Table",
    ends: "tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]",
    idx: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    most: int,
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Return for each edge whether it is among the ``most`` heaviest of one of its ends."""
    source, target = ends
    weight, count = (_or_last(edges[name]) for name in ("weight", "count"))
    retained = np.zeros(edges.num_rows, dtype=bool)
    # Every edge is ranked at both of its ends: at `near`, from heaviest to lightest.
    near, far = np.concatenate([source, target]), np.concatenate([target, source])
    order = np.lexsort((idx[far], -np.tile(count, 2), -np.tile(weight, 2), near))
    near = near[order]
    begins = np.flatnonzero(np.r_[True, near[1:] != near[:-1]]) if near.size else near
    rank = np.arange(near.size) - np.repeat(begins, np.diff(np.r_[begins, near.size]))
    retained[order[rank < most] % max(1, edges.num_rows)] = True
    return retained


def _or_last(column: "pa.ChunkedArray") -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    values = np.asarray(column.to_numpy(), dtype=np.float64)
    return np.where(np.isnan(values), -np.inf, values)


def _marked(prints: Mapping[str, str], saes: list[str], most: int) -> dict[str, str]:
    """Return fingerprints that distinguish the pruned SAEs from complete ones."""
    return {
        name: hashlib.sha256(f"{hash} edges_per_feature={most}".encode()).hexdigest()
        if name in saes
        else hash
        for name, hash in prints.items()
    }


def _numbers(column: "pa.ChunkedArray") -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.asarray(column.to_numpy(), dtype=np.int64)
