"""The co-activation edges that a small server keeps, as ``atlas push --edges-per-feature`` asks for."""

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

    An edge stays if it is among the ``edges_per_feature`` of highest weight of at
    least one of its ends; of equal weights the higher count comes first, then the
    lower index at the other end. So no feature is cut off from its own best edges,
    and one that is among the best of many keeps more.

    An SAE that loses edges gets another fingerprint, which holds the number: a
    store then shows something else of it.

    Parameters
    ----------
    graph
        The graph.
    edges_per_feature
        How many edges of each feature stay for its own sake.

    Raises
    ------
    BadInput
        If ``edges_per_feature`` is negative.
    """
    if edges_per_feature < 0:
        raise BadInput(f"--edges-per-feature is {edges_per_feature}; give 0 or more.")
    edges, features = graph.tables["CO_ACTIVATES"], graph.tables["Feature"]
    ends = _ends(edges, features)
    stays = _best(edges, ends, _numbers(features["idx"]), edges_per_feature)
    saes = features["sae"].take(ends[0][~stays]).unique().to_pylist()
    return replace(
        graph,
        tables={**graph.tables, "CO_ACTIVATES": edges.filter(stays)},
        fingerprints=_marked(graph.fingerprints, saes, edges_per_feature),
    )


def _ends(
    edges: "pa.Table", features: "pa.Table"
) -> "tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]":
    """Return the rows of the features that edges leave and reach."""
    import pyarrow.compute as pc

    known = features["id"].combine_chunks()
    return tuple(_numbers(pc.index_in(edges[end], value_set=known)) for end in ("source", "target"))


def _best(
    edges: "pa.Table",
    ends: "tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]",
    idx: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    most: int,
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Say of each edge whether it is among the ``most`` best of one of its ends."""
    source, target = ends
    weight, count = (_or_last(edges[name]) for name in ("weight", "count"))
    stays = np.zeros(edges.num_rows, dtype=bool)
    # Every edge is seen from both ends: from `near`, in the order of rank.
    near, far = np.concatenate([source, target]), np.concatenate([target, source])
    order = np.lexsort((idx[far], -np.tile(count, 2), -np.tile(weight, 2), near))
    near = near[order]
    begins = np.flatnonzero(np.r_[True, near[1:] != near[:-1]]) if near.size else near
    rank = np.arange(near.size) - np.repeat(begins, np.diff(np.r_[begins, near.size]))
    stays[order[rank < most] % max(1, edges.num_rows)] = True
    return stays


def _or_last(column: "pa.ChunkedArray") -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    values = np.asarray(column.to_numpy(), dtype=np.float64)
    return np.where(np.isnan(values), -np.inf, values)


def _marked(prints: Mapping[str, str], saes: list[str], most: int) -> dict[str, str]:
    """Return fingerprints that tell what was left out."""
    return {
        name: hashlib.sha256(f"{hash} edges_per_feature={most}".encode()).hexdigest()
        if name in saes
        else hash
        for name, hash in prints.items()
    }


def _numbers(column: "pa.ChunkedArray") -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.asarray(column.to_numpy(), dtype=np.int64)
