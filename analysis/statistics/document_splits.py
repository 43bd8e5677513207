"""Random divisions of the documents: into sets of equal numbers, or into halves of equal numbers of tokens."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Halving", "halve", "split"]

_FEWEST = 4  # documents

#: The documents of the first half and of the second.
Halving = tuple[NDArray[np.int64], NDArray[np.int64]]


def split(
    documents: NDArray[np.int64], sets: int, *, seed: int, repeat: int = 0
) -> list[NDArray[np.int64]]:
    """Divide documents at random into sets of equal numbers of documents.

    Parameters
    ----------
    documents
        Their numbers, each once.
    sets
        Number of sets; the first have one document more where the number is not divisible.
    seed, repeat
        The draw is made from both; each repeat has its own.

    Returns
    -------
    Each set, ascending.
    """
    return [np.sort(one) for one in np.array_split(_shuffled(documents, seed, repeat), sets)]


def halve(documents: Sequence[NDArray[np.int64]], count: int, *, seed: int) -> list[list[Halving]]:
    """Divide the documents that all SAEs have at random into halves of about equal numbers of tokens.

    Each document, in random order, goes to the half that has fewer tokens so far. Documents that
    do not fit into the shortest half of any SAE are excluded, so that no graph has more edges
    because it has more text.

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
        For each SAE, up to ``count``. A division is dropped where one half has less than half of
        the tokens of another, as with few long documents. Except for excluded documents, the
        first halves are the same documents in all SAEs, and so are the second. Empty below four
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
        order = _shuffled(common, seed, i).tolist()
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


def _shuffled(documents: NDArray[np.int64], seed: int, repeat: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, repeat]).permutation(documents)


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
