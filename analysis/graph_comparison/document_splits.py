"""Random halves of the documents, of equal numbers of tokens, and graphs of the bipartite null."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analysis.graph_comparison.linked import Linked
from analysis.statistics.bipartite_null import swapped
from ingest.codes.topk_membership import Membership, edges

__all__ = ["Halving", "halve", "null_linked", "part"]

_FEWEST = 4  # documents

#: The documents of the first half and of the second.
Halving = tuple[NDArray[np.int64], NDArray[np.int64]]


def halve(documents: Sequence[NDArray[np.int64]], count: int, *, seed: int) -> list[list[Halving]]:
    """Divide the documents that all SAEs have at random, into halves of about equal numbers of tokens.

    Documents are taken in random order, each into the half that has fewer tokens so far. What
    then does not fit into the shortest half of any SAE is left out, so that none is longer and
    no graph has more edges for having more text.

    Parameters
    ----------
    documents
        For each SAE, the document of each of its tokens.
    count
        How often the documents are divided.
    seed
        Of the division.

    Returns
    -------
    halvings
        For each SAE, ``count`` of them, less those where a half has less than half of the tokens
        of another (of few long documents, say); but for the documents left out, the first
        halves are of the same documents in all SAEs, and so are the second. Empty below four
        documents.
    """
    sizes = [
        dict(zip(*(x.tolist() for x in np.unique(of, return_counts=True)), strict=True))
        for of in documents
    ]
    common = np.array(sorted(set.intersection(*map(set, sizes))), dtype=np.int64)
    found: list[list[Halving]] = [[] for _ in documents]
    if len(common) < _FEWEST:
        return found
    for i in range(count):
        order = np.random.default_rng([seed, i]).permutation(common).tolist()
        sides = _sides(order, sizes)
        least = min(sum(size[d] for d in side) for size in sizes for side in sides)
        kept = [[_fitting(side, size, least) for side in sides] for size in sizes]
        tokens = [
            sum(size[d] for d in side) for size, k in zip(sizes, kept, strict=True) for side in k
        ]
        if 2 * min(tokens) < max(tokens):
            continue
        for halvings, (one, two) in zip(found, kept, strict=True):
            halvings.append((np.array(one, dtype=np.int64), np.array(two, dtype=np.int64)))
    return found


def _sides(order: Sequence[int], sizes: Sequence[Mapping[int, int]]) -> tuple[list[int], list[int]]:
    sides: tuple[list[int], list[int]] = ([], [])
    filled = [0, 0]
    for d in order:
        at = int(filled[1] < filled[0])
        sides[at].append(d)
        filled[at] += sum(size[d] for size in sizes)
    return sides


def _fitting(side: Sequence[int], size: Mapping[int, int], least: int) -> list[int]:
    """Return the documents that fit into so many tokens, in their order."""
    kept, filled = [], 0
    for d in side:
        if filled + size[d] <= least:
            kept.append(d)
            filled += size[d]
    return kept


def part(membership: Membership, documents: NDArray[np.int64]) -> Membership:
    """Return the table of some documents; ``active`` stays that of all tokens.

    Parameters
    ----------
    membership
        The table.
    documents
        Numbers of the documents.
    """
    rows = np.flatnonzero(np.isin(membership.document, documents))
    size = np.diff(membership.indptr)[rows]
    indptr = np.concatenate([[0], np.cumsum(size)])
    entry = np.arange(indptr[-1]) + np.repeat(membership.indptr[rows] - indptr[:-1], size)
    return replace(
        membership,
        indptr=indptr,
        features=membership.features[entry],
        document=membership.document[rows],
    )


def null_linked(membership: Membership, seed: int, *, min_count: int) -> Linked:
    """Return the graph of the table with features swapped between tokens; it has no weights.

    Parameters
    ----------
    membership
        The table.
    seed
        Of the draw.
    min_count
        Only pairs met on so many tokens.
    """
    drawn = swapped(membership, seed, within_documents=False)
    return Linked(membership.d_sae, edges(drawn, min_count=min_count)[0])
