"""Joint counts of parents and children from their codes, and the null of shifted documents.

The null shifts each document of the wider SAE circularly by one random offset, the same for all its
features (see ``ingest.match.nulls``). The frequency of each feature is preserved. Candidates
are chosen by decoder direction alone, so their number of joint tokens is tested without selection.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.splitting.directions import needed_draws
from ingest.compilation import compiled, in_threads
from ingest.match import kernels
from ingest.match.aligned_codes import Aligned, CodeRows
from ingest.match.nulls import shifted
from ingest.match.pairs import codes, fixed
from ingest.match.pooling import End, merged, octaves, pooled_p
from ingest.reduce.arrays import changes

__all__ = ["ActiveTokens", "Columns", "joint_counts", "joint_p", "parent_counts"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Positions: TypeAlias = NDArray[np.uint32]

#: Ranges of pairs, so that each thread gets several.
_RANGES = 16


@dataclass(frozen=True, eq=False)
class Columns:
    """The tokens on which each feature is active.

    Parameters
    ----------
    bounds
        int64, features + 1. Feature i has the entries ``bounds[i]:bounds[i + 1]``.
    token
        uint32. Tokens, ascending within a feature.
    """

    bounds: Ints
    token: Positions

    @classmethod
    def of(cls, rows: CodeRows) -> "Columns":
        """Return the columns of codes."""
        units = fixed(np.arange(len(rows), dtype=np.int64))
        count, *_ = kernels.totals(codes(rows), units, rows.d_sae)
        bounds = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        _, token, _ = kernels.columns(codes(rows), units, fixed(bounds))
        return cls(bounds, token)

    @cached_property
    def count(self) -> Ints:
        """Number of tokens on which each feature is active."""
        return np.diff(self.bounds)


@dataclass(frozen=True, eq=False)
class ActiveTokens:
    """The codes of two SAEs by feature, over the same tokens.

    Parameters
    ----------
    narrow, wide
        The active tokens of the features of each SAE.
    document
        int64, (tokens,). Number of the document of each token; never decreases.
    """

    narrow: Columns
    wide: Columns
    document: Ints

    @classmethod
    def of(cls, aligned: Aligned) -> "ActiveTokens":
        """Return the columns of aligned codes; ``a`` is the narrow SAE."""
        document = np.asarray(aligned.units.document)
        return cls(Columns.of(aligned.a), Columns.of(aligned.b), document)

    @property
    def unmoved(self) -> Positions:
        """The position of each token, without a shift; uint32."""
        return np.arange(len(self.document), dtype=np.uint32)

    def moved(self, seed: int, draw: int) -> Positions:
        """Return the position to which a draw of the null moves each token; uint32, (tokens,)."""
        lengths = np.diff(np.flatnonzero(changes(self.document)), append=len(self.document))
        order = shifted(lengths, np.random.default_rng((seed, 5, draw)))
        where = np.empty(len(order), dtype=np.uint32)
        where[order] = np.arange(len(order), dtype=np.uint32)
        return where


def joint_counts(
    parent: Ints, child: Ints, tokens: ActiveTokens, *, where: Positions | None = None
) -> Ints:
    """Return the number of tokens on which both features of each pair are active.

    Parameters
    ----------
    parent, child
        int64, (pairs,). Ascending by parent.
    tokens
        The codes.
    where
        uint32, (tokens,). Position to which each token of the wider SAE is moved; None for none.
    """
    out = np.zeros(len(parent), dtype=np.int64)
    where = tokens.unmoved if where is None else where
    a, b = tokens.narrow, tokens.wide

    def count(first: int, end: int) -> None:
        _joint(first, end, parent, child, a.bounds, a.token, b.bounds, b.token, where, out)

    in_threads(count, np.unique(np.linspace(0, len(parent), _RANGES + 1).astype(int)).tolist())
    return out


def joint_p(
    parent: Ints, child: Ints, tokens: ActiveTokens, *, draws: int, seed: int
) -> tuple[Ints, Floats, Floats]:
    """Compare the joint counts of pairs with those of shifted documents.

    Each count is standardised by the draws of its pair, and compared with the draws of all pairs of
    similar expected count (see ``ingest.match.pooling``).

    Parameters
    ----------
    parent, child
        int64, (pairs,). Ascending by parent.
    tokens
        The codes.
    draws, seed
        Number of draws, and their seed.

    Returns
    -------
    joint, expected, p
        (pairs,). Joint counts, their mean over the draws, and pooled p-values.
    """
    joint = joint_counts(parent, child, tokens)
    if not len(parent):
        return joint, np.empty(0), np.empty(0)
    null = np.empty((draws, len(parent)))
    for draw in range(draws):
        null[draw] = joint_counts(parent, child, tokens, where=tokens.moved(seed, draw))
    product = tokens.narrow.count[parent].astype(np.float64) * tokens.wide.count[child]
    every = np.ones(len(parent), dtype=np.bool_)
    octave = octaves(np.maximum(product, 1.0).astype(np.int64), every)
    pools = merged(octave, enough=-(-needed_draws(len(parent)) // draws))
    pairs = End(null, np.arange(len(parent)), octave, every)
    p = pooled_p(pairs, joint.astype(np.float64), octave=octave, pools=pools)
    return joint, null.mean(axis=0), p


def parent_counts(
    edges: tuple[Ints, Ints, NDArray[np.bool_]],
    tokens: ActiveTokens,
    *,
    where: Positions | None = None,
) -> tuple[Ints, Ints]:
    """Count the tokens of each parent by the children that are active on them.

    Parameters
    ----------
    edges
        Parent and child of each edge, ascending by parent, and whether the child is the main child of
        its parent.
    tokens
        The codes.
    where
        See ``joint_counts``.

    Returns
    -------
    of_parent
        int64, (features of the narrow SAE, 4). Tokens of the parent on which at least one child, the
        main child, another child but not the main child, and both are active.
    of_edge
        int64, (edges,). Tokens of both on which the main child is not active.
    """
    parent, child, main = edges
    of_parent = np.zeros((len(tokens.narrow.count), 4), dtype=np.int64)
    of_edge = np.zeros(len(parent), dtype=np.int64)
    a, b = tokens.narrow, tokens.wide
    where = tokens.unmoved if where is None else where
    _children(parent, child, main, a.bounds, a.token, b.bounds, b.token, where, of_parent, of_edge)
    return of_parent, of_edge


@compiled
def _joint(
    first: int,
    end: int,
    parent: Ints,
    child: Ints,
    bounds_a: Ints,
    token_a: Positions,
    bounds_b: Ints,
    token_b: Positions,
    where: Positions,
    out: Ints,
) -> None:
    """Count the joint tokens of pairs [first, end)."""
    active = np.zeros(len(where), dtype=np.bool_)
    k = first
    while k < end:
        i = parent[k]
        for e in range(bounds_a[i], bounds_a[i + 1]):
            active[token_a[e]] = True
        while k < end and parent[k] == i:
            number = 0
            for e in range(bounds_b[child[k]], bounds_b[child[k] + 1]):
                number += active[where[token_b[e]]]
            out[k] = number
            k += 1
        for e in range(bounds_a[i], bounds_a[i + 1]):
            active[token_a[e]] = False


@compiled
def _children(
    parent: Ints,
    child: Ints,
    main: NDArray[np.bool_],
    bounds_a: Ints,
    token_a: Positions,
    bounds_b: Ints,
    token_b: Positions,
    where: Positions,
    of_parent: Ints,
    of_edge: Ints,
) -> None:
    """Count the tokens of parents; a flag is 1 for the parent, 2 for the main child, 4 for others."""
    flag = np.zeros(len(where), dtype=np.uint8)
    k = 0
    while k < len(parent):
        i, end = parent[k], k
        for e in range(bounds_a[i], bounds_a[i + 1]):
            flag[token_a[e]] = 1
        while end < len(parent) and parent[end] == i:
            bit = 2 if main[end] else 4
            for e in range(bounds_b[child[end]], bounds_b[child[end] + 1]):
                t = where[token_b[e]]
                if flag[t] & 1:
                    flag[t] |= bit
            end += 1
        for edge in range(k, end):
            for e in range(bounds_b[child[edge]], bounds_b[child[edge] + 1]):
                t = where[token_b[e]]
                of_edge[edge] += (flag[t] & 1) == 1 and (flag[t] & 2) == 0
        for e in range(bounds_a[i], bounds_a[i + 1]):
            t = token_a[e]
            main_on, other_on = (flag[t] & 2) != 0, (flag[t] & 4) != 0
            of_parent[i, 0] += main_on or other_on
            of_parent[i, 1] += main_on
            of_parent[i, 2] += other_on and not main_on
            of_parent[i, 3] += other_on and main_on
            flag[t] = 0
        k = end
