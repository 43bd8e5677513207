"""The bipartite null: features are swapped between tokens, and all counts stay fixed."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ingest.codes.topk_membership import Membership
from ingest.compilation import compiled

__all__ = ["SWAPS", "swapped"]

#: Attempted swaps per entry of the table. On the demo, the edges and clustering of the null and
#: the share of unmoved entries are stable from 2 on.
SWAPS = 5


def swapped(
    membership: Membership, seed: int, *, within_documents: bool, swaps: int = SWAPS
) -> Membership:
    """Draw a random table with the same count for every token and every feature.

    A swap takes one entry, feature i of token s, and a random second entry, feature j of token
    t. It moves j to s and i to t, unless either token has that feature already. Every swap is
    as likely as its reverse, and a refused swap counts as a step. After many steps, all tables
    with these counts are therefore equally likely. Features become independent of each other
    given their counts, so the remaining graph structure is due to the counts alone.

    Parameters
    ----------
    membership
        The table.
    seed
        Seed of the draw.
    within_documents
        Swap only between tokens of the same document. Each feature then also has a fixed count
        in every document, so the null preserves the topics of documents.
    swaps
        Attempted swaps per entry of the table.

    Returns
    -------
    Membership
        The drawn table, with ``active`` of the input.
    """
    m = membership
    entries = len(m.features)
    if not entries:
        return m
    row = np.repeat(np.arange(len(m), dtype=np.int32), np.diff(m.indptr))
    first = np.ones(len(m), dtype=np.bool_)
    first[1:] = (m.document[1:] != m.document[:-1]) & within_documents
    group = (np.cumsum(first) - 1).astype(np.int32)
    begin = np.append(m.indptr[:-1][first], entries)
    features = m.features.copy()
    rng = np.random.default_rng(seed)
    _swap_all(rng, features, swaps, m.indptr, row, group, begin)
    _sort_rows(features, m.indptr)
    return replace(m, features=features)


@compiled
def _swap_all(
    rng: np.random.Generator,
    features: NDArray[np.int32],
    swaps: int,
    indptr: NDArray[np.int64],
    row: NDArray[np.int32],
    group: NDArray[np.int32],
    begin: NDArray[np.int64],
) -> None:
    entries = len(features)
    for step in range(swaps * entries):
        # Visiting the first entries in order leaves the null unchanged and reads memory in order.
        d = step % entries
        s = row[d]
        a, b = begin[group[s]], begin[group[s] + 1]
        e = a + int(rng.random() * (b - a))
        t = row[e]
        i, j = features[d], features[e]
        if s == t or i == j:
            continue
        held = False
        for p in range(indptr[s], indptr[s + 1]):
            held |= features[p] == j
        for p in range(indptr[t], indptr[t + 1]):
            held |= features[p] == i
        if not held:
            features[d], features[e] = j, i


@compiled
def _sort_rows(features: NDArray[np.int32], indptr: NDArray[np.int64]) -> None:
    for t in range(len(indptr) - 1):
        features[indptr[t] : indptr[t + 1]].sort()
