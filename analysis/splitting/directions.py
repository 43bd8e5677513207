"""Candidate parents by decoder cosine, and the null of rotated decoder directions.

The null rotates all directions of the wider SAE about their mean by one random rotation. It rotates
blocks of neighbouring principal axes, so the angles between the directions are preserved exactly, and
the variance along the axes approximately; only their relation to the narrow SAE is lost. Each draw gives the highest cosine of a child with any parent. A candidate is compared with these
maxima, so p is valid although candidates are the nearest parents. Draws are pooled over children of
similar frequency.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.directions import cosine_blocks, nearest, unit_rows
from ingest.match.pooling import merged, octaves

__all__ = [
    "Candidates",
    "direction_p",
    "draws_needed",
    "nearest_parents",
    "needed_draws",
    "principal_axes",
    "random_rotation",
]

Floats: TypeAlias = NDArray[np.float64]
Vectors: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

#: Most children of a draw.
_SAMPLE = 8192

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
    near = nearest(wide[of_b], narrow[of_a], k=candidates)
    parent = of_a[near.index.ravel()]
    child = np.repeat(of_b, near.index.shape[1])
    order = np.lexsort((child, parent))
    return Candidates(parent[order], child[order], near.cosine.ravel()[order])


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
        turned = mean + (wide[some] - mean) @ random_rotation(axes, rng)
        pool.append(pools[some])
        best.append(_maxima(unit_rows(turned, dtype=np.float32), narrow[of_a]))
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
    blocks = cosine_blocks(children, parents)
    return np.concatenate([block.max(axis=1) for _, block in blocks]).astype(np.float64)
