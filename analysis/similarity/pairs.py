"""Matched pairs of features: one-to-one pairs, best partners in one direction, and subsets."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analysis.statistics.nulls import strata

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Directions",
    "MatchedPairs",
    "distinct",
    "frequency_strata",
    "read_pairs",
    "sample_like",
    "subsets",
    "unique_share",
]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class MatchedPairs:
    """Pairs of features, each feature in one pair at most.

    Parameters
    ----------
    a, b
        int64, (pairs,). Feature of either SAE.
    r
        float64, (pairs,). Correlation of their activations.
    """

    a: Ints
    b: Ints
    r: Floats

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, which: "Ints | Mask") -> "MatchedPairs":
        return MatchedPairs(self.a[which], self.b[which], self.r[which])


@dataclass(frozen=True, eq=False)
class Directions:
    """Pairs of two SAEs, chosen in three ways.

    Parameters
    ----------
    one_to_one
        One-to-one matches.
    a_to_b, b_to_a
        The best partner of each feature of A (of B). Of the features with one partner, only
        the one of highest correlation is in a pair, so that no vector occurs twice.
    unique_ab, unique_ba
        Number of different partners / number of features with a partner; None without any.
    unique_ab_null, unique_ba_null
        The same, expected if each of these features had a random partner among the features of the
        other SAE that have a partner.
    """

    one_to_one: MatchedPairs
    a_to_b: MatchedPairs
    b_to_a: MatchedPairs
    unique_ab: float | None
    unique_ba: float | None
    unique_ab_null: float | None
    unique_ba_null: float | None


def read_pairs(matches: "pa.Table") -> Directions:
    """Return the pairs of the table MATCHES of two SAEs; pairs without a finite r are dropped.

    Parameters
    ----------
    matches
        Columns ``source``, ``target``, ``pearson``, ``one_to_one``, ``rank_ab``, ``rank_ba``.
    """
    a, b = (
        np.array([int(key.rpartition("/")[2]) for key in matches[end].to_pylist()], dtype=np.int64)
        for end in ("source", "target")
    )
    r = matches["pearson"].to_numpy().astype(np.float64)
    every = MatchedPairs(a, b, r)
    finite = np.isfinite(r)
    exclusive = matches["one_to_one"].to_numpy().astype(bool)
    best_ab, best_ba = (
        matches[name].to_numpy().astype(np.float64) == 0  # NaN if it is not among the best
        for name in ("rank_ab", "rank_ba")
    )
    ab, ba = every[finite & best_ab], every[finite & best_ba]
    return Directions(
        every[finite & exclusive],
        _best_of(ab, ab.b),
        _best_of(ba, ba.a),
        len(np.unique(ab.b)) / len(ab) if len(ab) else None,
        len(np.unique(ba.a)) / len(ba) if len(ba) else None,
        unique_share(len(ab), len(ba)),
        unique_share(len(ba), len(ab)),
    )


def unique_share(features: int, partners: int) -> float | None:
    """Return the expected share of different partners if each feature has a random one.

    Parameters
    ----------
    features
        Number of features, each with one partner.
    partners
        Number of possible partners.

    Returns
    -------
    m / n · (1 - (1 - 1 / m)ⁿ) of n features and m partners; None without either.

    Examples
    --------
    >>> unique_share(2, 2)
    0.75
    """
    if not features or not partners:
        return None
    return partners / features * (1 - (1 - 1 / partners) ** features)


def _best_of(pairs: MatchedPairs, partner: Ints) -> MatchedPairs:
    """Return the pair of highest correlation for each partner; ties go to the first pair."""
    order = np.lexsort((np.arange(len(pairs)), -pairs.r, partner))
    first = np.ones(len(order), dtype=bool)
    first[1:] = partner[order][1:] != partner[order][:-1]
    return pairs[np.sort(order[first])]


def distinct(vectors: "NDArray[np.floating] | sparse.csr_array") -> Mask:
    """Return which rows are not zero and differ from all rows before them.

    Parameters
    ----------
    vectors
        (rows, d), dense, or sparse with sorted indices and no stored zeros. NaN and infinite
        values exclude a row.
    """
    seen: set[bytes] = set()
    found = np.zeros(vectors.shape[0], dtype=bool)
    for i in range(len(found)):
        if isinstance(vectors, sparse.csr_array):
            entries = slice(*vectors.indptr[i : i + 2])
            values = vectors.data[entries]
            key = vectors.indices[entries].tobytes() + values.tobytes()
        else:
            values = vectors[i]
            key = (values + 0).tobytes()  # -0.0 becomes 0.0
        digest = blake2b(key, digest_size=16).digest()  # the rows themselves take as much memory
        found[i] = bool(np.any(values)) and bool(np.isfinite(values).all()) and digest not in seen
        seen.add(digest)
    return found


def subsets(pairs: MatchedPairs, *, wordless: Mask) -> Iterator[tuple[str, Ints]]:
    """Yield the subsets of one-to-one pairs by name, as indices of pairs.

    Parameters
    ----------
    pairs
        The pairs.
    wordless
        bool, (pairs,). Whether a feature of the pair has a frequent token without letters and
        digits, such as punctuation.
    """
    by_r = np.argsort(-pairs.r, kind="stable")
    yield "top half by r", np.sort(by_r[: (len(pairs) + 1) // 2])
    yield "top tenth by r", np.sort(by_r[: (len(pairs) + 9) // 10])
    yield "with punctuation", np.flatnonzero(wordless)
    yield "without punctuation", np.flatnonzero(~wordless)


def frequency_strata(counts_a: Ints, counts_b: Ints, *, bins: int) -> Ints:
    """Return the quantile of frequency of each pair, int64, (pairs,).

    Parameters
    ----------
    counts_a, counts_b
        int64, (pairs,). Tokens on which each feature is active. The geometric mean of both is
        the frequency of the pair.
    bins
        Number of quantiles; fewer if they would have fewer than about five pairs.
    """
    joint = np.rint(1e6 * (np.log1p(counts_a) + np.log1p(counts_b))).astype(np.int64)
    return strata(joint, np.zeros_like(joint), frequency_bins=bins, degree_bins=1)


def sample_like(chosen: Ints, stratum: Ints, rng: np.random.Generator) -> Ints:
    """Draw as many pairs from each stratum as a subset has there, without replacement.

    Parameters
    ----------
    chosen
        Indices of the pairs of the subset.
    stratum
        int64, (pairs,). Stratum of every pair.
    rng
        Random generator.

    Returns
    -------
    Indices of pairs, ascending.
    """
    found = []
    for one, number in zip(*np.unique(stratum[chosen], return_counts=True), strict=True):
        found.append(rng.choice(np.flatnonzero(stratum == one), size=number, replace=False))
    return np.sort(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)
