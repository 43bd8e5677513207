"""Vectors of nodes: local statistics, their means over neighbours, and whitening."""

from functools import lru_cache
from typing import TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtri
from scipy.stats import rankdata

from analysis.graph.coactivation_graph import CoactivationGraph
from analysis.graph_matching.settings import Standard

__all__ = ["STATISTICS", "embedded", "local", "propagated", "unit"]

Floats: TypeAlias = NDArray[np.float64]
Number = TypeVar("Number", bound=np.floating)

STATISTICS = (
    "log degree",
    "log strength",
    "clustering",
    "log core number",
    "log pagerank",
    "mean log degree of neighbours",
    "its standard deviation",
    "its mean by weight",
    "entropy of weights",
    "largest share of strength",
)
"""The statistics of a node in ``local``.

Strength is nearly proportional to the number of tokens with the node among the most active.
"""

# Shrinkage of the covariance: share of the mean eigenvalue added to each eigenvalue.
_SHRINK = 0.3

# Largest rounding residual of equal numbers minus their mean, also in single precision.
_NOTHING = 1e-5

# Significant digits; further digits depend on the order of summation.
_DIGITS = 9


@lru_cache(maxsize=2)  # of two graphs, which all methods and shares of anchors read
def local(graph: CoactivationGraph) -> Floats:
    """Compute the statistics of each node; (nodes, ``len(STATISTICS)``), read-only."""
    weights, steps = graph.matrix, graph.steps
    degree = graph.degree.astype(np.float64)
    log_degree = np.log1p(degree)
    evenly = csr_array(
        (
            np.repeat(1 / np.maximum(degree, 1), np.diff(weights.indptr)),
            weights.indices,
            weights.indptr,
        ),
        shape=weights.shape,
    )
    mean = evenly @ log_degree
    variance = evenly @ log_degree**2 - mean**2
    surprise = csr_array(
        (-steps.data * np.log(steps.data), steps.indices, steps.indptr), steps.shape
    )
    columns = [
        log_degree,
        np.log1p(graph.strength),
        graph.clustering,
        np.log1p(graph.core),
        np.log(graph.graph.pagerank()),
        mean,
        np.sqrt(np.maximum(variance, 0)),
        steps @ log_degree,
        np.asarray(surprise.sum(axis=1)),
        steps.max(axis=1).toarray().ravel(),
    ]
    found = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
    found.flags.writeable = False
    return found


def propagated(
    graph: CoactivationGraph, *, depth: int, standard: Standard, frequency: bool = False
) -> Floats:
    """Compute the statistics of nodes and their repeated means over neighbours.

    Parameters
    ----------
    graph
        The graph.
    depth
        Number of times that weighted means over neighbours are taken; 0 for the statistics of the
        nodes only.
    standard
        Standardization of each column over live nodes, before the next mean.
    frequency
        Whether to include the logarithm of the number of active tokens.

    Returns
    -------
    float64, (nodes, columns); 0 for nodes that are not live.
    """
    columns = local(graph)
    if frequency:
        columns = np.column_stack([columns, np.log(np.maximum(graph.active, 1))])
    found = [_standardised(columns, graph.live, standard)]
    for _ in range(depth):
        found.append(_standardised(graph.steps @ found[-1], graph.live, standard))
    return np.concatenate(found, axis=1)


def embedded(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return whitened unit vectors of the live nodes of two graphs.

    Whitening uses the shrunk common covariance of both graphs. Without it, correlated statistics
    such as degree, strength and core number would count several times.
    """
    both = np.concatenate([a, b])
    values, axes = np.linalg.eigh(np.cov(both, rowvar=False)) if len(both) > 1 else (None, None)
    if values is None or values.max() <= 0:
        return np.zeros_like(a), np.zeros_like(b)
    turn = axes / np.sqrt(np.maximum(values, 0) + _SHRINK * values.mean())
    return unit(a @ turn), unit(b @ turn)


def unit(rows: NDArray[Number]) -> NDArray[Number]:
    """Normalize rows to unit length, in their own precision; zero rows are unchanged."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    by = np.where(length > _NOTHING, length, 1).astype(rows.dtype)
    return cast("NDArray[Number]", rows / by)


def _standardised(columns: Floats, live: NDArray[np.int64], standard: Standard) -> Floats:
    out = np.zeros_like(columns)
    if not len(live):
        return out
    some = columns[live]
    scale = np.abs(some).max(axis=0)
    some = np.round(some / np.where(scale > 0, scale, 1), _DIGITS)
    if standard == "normal":
        out[live] = ndtri((rankdata(some, axis=0) - 0.5) / len(live))
    else:
        spread = np.where(np.ptp(some, axis=0) > 0, some.std(axis=0), 1)
        centred = np.where(np.ptp(some, axis=0) > 0, some - some.mean(axis=0), 0)
        out[live] = centred / spread
    return out
