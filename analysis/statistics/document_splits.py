"""Random splits of documents into sets, halves or groups, and restriction of a table to a set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ingest.codes.topk_membership import Membership

__all__ = ["Halving", "document_groups", "document_subset", "halve", "split"]

_FEWEST = 4  # documents

#: The documents of the first half and of the second.
Halving = tuple[NDArray[np.int64], NDArray[np.int64]]


def split(
    documents: NDArray[np.int64], sets: int, *, seed: int, repeat: int = 0
) -> list[NDArray[np.int64]]:
    """Split documents at random into sets of equal size.

    Parameters
    ----------
    documents
        Unique document numbers.
    sets
        Number of sets. If the documents cannot be split evenly, the first sets have one more.
    seed, repeat
        Seed of the split, and the number of the repeat.

    Returns
    -------
    The sets, each in ascending order.
    """
    return [np.sort(one) for one in np.array_split(_shuffled(documents, seed, repeat), sets)]


def halve(documents: Sequence[NDArray[np.int64]], count: int, *, seed: int) -> list[list[Halving]]:
    """Split the documents common to all SAEs into random halves with about equally many tokens.

    Each document, in random order, is assigned to the half with fewer tokens so far. Documents
    beyond the token count of the shortest half of any SAE are excluded. No graph then has more
    edges because it has more text.

    Parameters
    ----------
    documents
        For each SAE, the document of each of its tokens.
    count
        Number of splits.
    seed
        Seed of the splits.

    Returns
    -------
    halvings
        For each SAE, up to ``count`` splits. A split is dropped if one half has less than half
        of the tokens of another, as with few long documents. Except for excluded documents,
        the halves have the same documents in all SAEs. Empty for fewer than four documents.
    """
    sizes = [
        dict(zip(*(x.tolist() for x in np.unique(each, return_counts=True)), strict=True))
        for each in documents
    ]
    common = np.array(sorted(set.intersection(*map(set, sizes))), dtype=np.int64)
    result: list[list[Halving]] = [[] for _ in documents]
    if len(common) < _FEWEST:
        return result
    for i in range(count):
        order = _shuffled(common, seed, i).tolist()
        sides = _sides(order, sizes)
        least = min(sum(size[d] for d in side) for size in sizes for side in sides)
        retained = [[_fitting(side, size, least) for side in sides] for size in sizes]
        tokens = [
            sum(size[d] for d in side)
            for size, k in zip(sizes, retained, strict=True)
            for side in k
        ]
        if 2 * min(tokens) < max(tokens):
            continue
        for halvings, (one, two) in zip(result, retained, strict=True):
            halvings.append((np.array(one, dtype=np.int64), np.array(two, dtype=np.int64)))
    return result


def document_groups(
    documents: NDArray[np.int64], *, among: int, number: int, seed: int
) -> NDArray[np.int64]:
    """Assign documents at random to groups whose sizes differ by at most one.

    Parameters
    ----------
    documents
        Numbers of the documents to assign.
    among
        Total number of documents.
    number
        Number of groups.
    seed
        Seed of the assignment.

    Returns
    -------
    int64, (among,): the group of each document, from 0; -1 for documents without a group.
    """
    group = np.full(among, -1, dtype=np.int64)
    shuffled = np.random.default_rng(seed).permutation(documents)
    group[shuffled] = np.arange(len(documents)) % number
    return group


def document_subset(membership: Membership, documents: NDArray[np.int64]) -> Membership:
    """Return the tokens of a subset of documents; ``active`` remains that of all tokens.

    Parameters
    ----------
    membership
        The most active features of each token.
    documents
        Numbers of the documents.
    """
    selected = np.isin(membership.document, documents)
    sizes = np.diff(membership.indptr)
    return replace(
        membership,
        indptr=np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[selected])]),
        features=membership.features[np.repeat(selected, sizes)],
        document=membership.document[selected],
    )


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
    """Return the documents of one half, in order, up to a total of ``least`` tokens."""
    retained, filled = [], 0
    for d in side:
        if filled + size[d] <= least:
            retained.append(d)
            filled += size[d]
    return retained
