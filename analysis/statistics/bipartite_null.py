"""The null of the graph: features swapped between tokens, every token and every feature keeping its count."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ingest.codes.topk_membership import Membership
from ingest.compilation import compiled

__all__ = ["SWAPS", "swapped"]

#: Swaps tried for each entry of the table. On the demo the null's edges and clustering, and
#: how many entries still stand where they stood, are level from 2 on.
SWAPS = 5


def swapped(
    membership: Membership, seed: int, *, within_documents: bool, swaps: int = SWAPS
) -> Membership:
    """Draw a table at random among those with the same counts of every token and every feature.

    A swap takes an entry, feature i of token s, and a second one at random, feature j of
    token t, and gives j to s and i to t, unless either has it already. Every swap is as
    likely as its reverse and a refused one counts as a step, so after many steps all tables
    with these counts are equally likely. Features become independent of each other but for their
    counts; what stays of the graph comes from the counts alone.

    Parameters
    ----------
    membership
        The table.
    seed
        Of the draw.
    within_documents
        Swap between tokens of one document only, so that each feature keeps its count in
        every document too; what documents are about then stays in the null.
    swaps
        Swaps tried, for each entry of the table.

    Returns
    -------
    Membership
        The drawn table; ``active`` is the given one's.
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
        # Going through the first entries in turn is as fair as drawing them, and memory is read in order.
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
