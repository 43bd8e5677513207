"""One-to-one matches: partners for as many features as are worth one, of highest total."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from ingest.match.pairs import Pairs

__all__ = ["one_to_one"]


def one_to_one(pairs: Pairs, *, threshold: float) -> NDArray[np.bool_]:
    """Choose pairs that share no feature, of the highest sum of (pearson - threshold).

    Parameters
    ----------
    pairs
        The candidates.
    threshold
        What a feature without partner is worth; a pair at or below it is never chosen.

    Returns
    -------
    Of each pair, whether it is chosen.

    Notes
    -----
    Each feature of A has a column of its own that stands for no partner, so that a full
    matching always exists, and a sparse solver finds it. Where several choices have the
    same sum, which of them is returned depends on nothing but the pairs: they are in order
    of (a, b), and the solver draws no random numbers.
    """
    chosen = np.zeros(len(pairs), dtype=np.bool_)
    worth = np.flatnonzero(pairs.pearson > threshold)
    if not len(worth):
        return chosen
    rows, row = np.unique(pairs.a[worth], return_inverse=True)
    columns, column = np.unique(pairs.b[worth], return_inverse=True)
    nobody = np.arange(len(rows))
    # All weights are raised by 1, which each row takes in once: a weight of 0 is no edge.
    weight = np.concatenate([1 + (pairs.pearson[worth] - threshold), np.ones(len(rows))])
    graph = csr_array(
        (
            weight,
            (np.concatenate([row, nobody]), np.concatenate([column, len(columns) + nobody])),
        ),
        shape=(len(rows), len(columns) + len(rows)),
    )
    of_row = np.empty(len(rows), dtype=np.int64)
    matched = min_weight_full_bipartite_matching(graph, maximize=True)
    of_row[matched[0]] = matched[1]
    chosen[worth[of_row[row] == column]] = True
    return chosen
