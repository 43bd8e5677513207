"""Candidate parents by decoder cosine, and the null of rotated decoder directions.

The null rotates all directions of the wider SAE about their mean by one random rotation. It rotates
blocks of neighbouring principal axes, so the angles between the directions are preserved exactly, and
the variance along the axes approximately; only their relation to the narrow SAE is lost. Each draw gives the highest cosine of a child with any parent. A candidate is compared with these
maxima, so p is valid although candidates are the nearest parents. Draws are pooled over children of
similar frequency.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.match.pooling import merged, octaves

__all__ = [
    "Candidates",
    "direction_p",
    "draws_needed",
    "nearest_parents",
    "needed_draws",
    "principal_axes",
    "random_rotation",
    "unit_rows",
]

Floats: TypeAlias = NDArray[np.float64]
Vectors: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

#: Bytes of a block of cosines, and most children of a draw.
_BLOCK, _SAMPLE = 64 << 20, 8192

# Rounding in 32 bits must not decide between equal cosines.
_ROUNDING = 1e-5

# Most axes of a block. Larger blocks mix larger differences of variance, smaller ones leave more of the
# original direction.
_MIXED = 8

# As in ``ingest.match.pooling``: at their lowest p, ten pairs must be significant.
_TRUE_PAIRS, _ONE_IN = 10, 20


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs of a child and one of its nearest parents, ascending by (parent, child).

    Parameters
    ----------
    parent, child
        int64, (pairs,). Features of the narrow and of the wider SAE.
    cosine
        float64, (pairs,). Cosine of their decoder vectors.
    """

    parent: Ints
    child: Ints
    cosine: Floats

    def __len__(self) -> int:
        return len(self.parent)


def unit_rows(vectors: NDArray[np.floating]) -> tuple[Vectors, Mask]:
    """Return the rows at length 1, and which rows have a direction (rows of zeros do not)."""
    norm = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, np.newaxis]
    directed = norm[:, 0] > 0
    unit = np.zeros(vectors.shape, dtype=np.float32)
    np.divide(vectors, norm, out=unit, where=norm > 0, casting="same_kind")
    return unit, directed


def nearest_parents(
    narrow: Vectors, wide: Vectors, candidates: int, *, parents: Mask, children: Mask
) -> Candidates:
    """Return the parents with the highest decoder cosine of each child.

    Parameters
    ----------
    narrow, wide
        float32, (features, dimensions). Unit rows.
    candidates
        Number of parents for each child.
    parents, children
        Which features are eligible.
    """
    of_a, of_b = np.flatnonzero(parents), np.flatnonzero(children)
    best = min(candidates, len(of_a))
    found: list[tuple[Ints, Ints, Floats]] = []
    for rows in _blocks(of_b, len(of_a)) if best else ():
        cosine = wide[rows] @ narrow[of_a].T
        top = np.argpartition(-cosine, best - 1, axis=1)[:, :best]
        values = np.take_along_axis(cosine, top, axis=1).astype(np.float64)
        found.append((of_a[top].ravel(), np.repeat(rows, best), values.ravel()))
    if not found:
        return Candidates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    parent, child, value = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.lexsort((child, parent))
    return Candidates(parent[order], child[order], value[order])


def direction_p(
    pairs: Candidates,
    narrow: Vectors,
    wide: Vectors,
    *,
    parents: Mask,
    children: Mask,
    count: Ints,
    draws: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """Compare the cosines of candidates with those of rotated children of similar frequency.

    Parameters
    ----------
    pairs
        The candidates.
    narrow, wide, parents, children
        See ``nearest_parents``.
    count
        int64, one a feature of the wider SAE. Tokens on which it is active.
    draws, seed
        Number of draws, and their seed. A draw has at most 8,192 children.

    Returns
    -------
    p, threshold
        float64, (pairs,). p is (1 + draws with at least this cosine) / (1 + draws of the pool);
        the threshold is the 95% quantile of the pool.
    """
    p, threshold = np.ones(len(pairs)), np.full(len(pairs), np.nan)
    if not len(pairs):
        return p, threshold
    of_a, of_b = np.flatnonzero(parents), np.flatnonzero(children)
    share = min(1.0, _SAMPLE / len(of_b))
    enough = -(-needed_draws(len(pairs)) // max(1, int(draws * share)))
    pools = merged(octaves(count, children), enough=enough)
    axes, mean = principal_axes(narrow[of_a], wide[of_b]), wide[of_b].mean(axis=0)
    pool, best = [], []
    for draw in range(draws):
        rng = np.random.default_rng((seed, 4, draw))
        some = np.sort(rng.permutation(of_b)[:_SAMPLE])
        turned = unit_rows(mean + (wide[some] - mean) @ random_rotation(axes, rng))[0]
        pool.append(pools[some])
        best.append(_maxima(turned, narrow[of_a]))
    member, values = np.concatenate(pool), np.concatenate(best)
    for one in range(int(pools.max(initial=-1)) + 1):
        null, here = np.sort(values[member == one]), pools[pairs.child] == one
        below = np.searchsorted(null, pairs.cosine[here] - _ROUNDING)
        p[here] = (1 + len(null) - below) / (1 + len(null))
        if len(null):
            threshold[here] = np.quantile(null, 0.95, method="higher")
    return p, threshold


def needed_draws(pairs: int) -> int:
    """Return the number of draws of a pool with which ten pairs can be significant."""
    return _ONE_IN * pairs // min(_TRUE_PAIRS, pairs) if pairs else 0


def principal_axes(narrow: Vectors, wide: Vectors) -> Vectors:
    """Return the axes of the mean of both covariances, by falling variance; columns."""
    moments = np.zeros((wide.shape[1], wide.shape[1]))
    for rows in (narrow, wide):
        mean = rows.mean(axis=0, dtype=np.float64)
        moments += (rows.T @ rows).astype(np.float64) / len(rows) - np.outer(mean, mean)
    axes: Vectors = np.linalg.eigh(moments)[1][:, ::-1].astype(np.float32)
    return axes


def draws_needed(pairs: int, children: int, *, q: float) -> int:
    """Return the number of draws with which few edges can be significant.

    Few are ten, or 1% of the children if that is more.

    Parameters
    ----------
    pairs, children
        Number of candidates, and of children in them.
    q
        Largest q-value of an edge.
    """
    if not pairs:
        return 0
    lowest = q * max(_TRUE_PAIRS, children / 100) / pairs
    return math.ceil((1 / lowest - 1) / min(children, _SAMPLE))


def random_rotation(axes: Vectors, rng: np.random.Generator) -> Vectors:
    """Draw a rotation that mixes axes of similar variance only; float32, (dimensions, dimensions).

    The blocks have 1, 1, 2, 4, 8, 8, … axes, since variances differ most between the first axes. The
    rotation of each block is uniform among orthogonal matrices, so a block of one axis is reflected or
    not.
    """
    turned, first, size = np.empty_like(axes), 0, 1
    while first < len(axes):
        block = axes[:, first : first + size]
        q, r = np.linalg.qr(rng.standard_normal((block.shape[1], block.shape[1])))
        turned[:, first : first + size] = block @ (q * np.sign(np.diag(r))).astype(np.float32)
        first += block.shape[1]
        size = min(max(first, 1), _MIXED)
    return turned @ axes.T


def _maxima(children: Vectors, parents: Vectors) -> Floats:
    """Return the highest cosine of each child with any parent."""
    rows = _blocks(np.arange(len(children)), len(parents))
    return np.concatenate([(children[some] @ parents.T).max(axis=1) for some in rows])


def _blocks(features: Ints, width: int) -> Iterator[Ints]:
    """Yield the features in blocks whose cosines with ``width`` others fit into a block."""
    size = max(1, _BLOCK // (4 * max(width, 1)))
    for begin in range(0, len(features), size):
        yield features[begin : begin + size]
