"""Pearson correlations of all pairs of features of two SAEs, from their sparse codes."""

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from atlas.errors import Mismatch, OutOfSpace
from ingest.compilation import in_threads
from ingest.match import kernels
from ingest.match.aligned_codes import CodeRows
from ingest.match.pairs import Features, Pairs, codes, features, fixed, pairs_of

__all__ = ["Correlator"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

_ENTRY = 8  # bytes of an entry of a column: its unit and its activation
# Bytes for each compared unit: its number, and the peak memory of the nulls while they compute
# the order of a draw. Correlating the draw, or no draws, needs less.
_UNIT = 24 + 36
_WORTH_A_THREAD = 2**14  # entries
_MOST_UNITS = 2**31


@dataclass(frozen=True, eq=False)
class Correlator:
    """The Pearson correlations between the features of two SAEs.

    Parameters
    ----------
    a, b
        The codes; both have a row for each unit.
    best
        Number of partners stored for each feature, in each direction.
    min_joint
        Units on which both features must be active for a pair to be a candidate.
    allowed_a, allowed_b
        Masks of the features that may be in a candidate pair; None for all.
    retained
        int64, ascending. The units that are compared; None for all.
    memory
        Largest number of bytes to use, without the codes and the results.

    Raises
    ------
    Mismatch
        If the codes have different numbers of units.
    OutOfSpace
        If there are 2**31 units or more. ``passes`` and each call also raise it if not even
        one feature fits into the memory.

    Notes
    -----
    A pair is a candidate if both features vary over the units, both are allowed, both are
    active together on at least ``min_joint`` units, and their correlation is above 0. A
    feature with the same activation on every unit (0 included) has no correlation.

    The features of A are converted to columns, in groups that fit into the memory. Each
    group needs one pass over the codes. If all features fit, the columns are computed once
    and reused by all calls.
    """

    a: CodeRows
    b: CodeRows
    best: int
    min_joint: int
    memory: int
    allowed_a: Mask | None = None
    allowed_b: Mask | None = None
    retained: Ints | None = None

    def __post_init__(self) -> None:
        if len(self.a) != len(self.b):
            raise Mismatch(
                f"The codes have {len(self.a):,} and {len(self.b):,} rows; both SAEs need one row "
                "for each unit. Align them first."
            )
        if len(self.a) >= _MOST_UNITS:
            raise OutOfSpace(
                f"The codes have {len(self.a):,} tokens, but fewer than {_MOST_UNITS:,} can be "
                "matched. Match on a part of the text."
            )

    @cached_property
    def units(self) -> Ints:
        """The units that are compared, int64, ascending."""
        units = np.arange(len(self.a)) if self.retained is None else self.retained
        return fixed(units.astype(np.int64))

    @cached_property
    def of_a(self) -> Features:
        """The features of A."""
        return features(self.a, self.units, min_count=self.min_joint, allowed=self.allowed_a)

    @cached_property
    def of_b(self) -> Features:
        """The features of B."""
        return features(self.b, self.units, min_count=self.min_joint, allowed=self.allowed_b)

    @property
    def passes(self) -> int:
        """Number of passes over the codes in each call."""
        return len(self._bounds) - 1

    def over(self, retained: Ints) -> "Correlator":
        """Return the correlation over a subset of the units."""
        return replace(self, retained=retained)

    def pairs(self) -> Pairs:
        """Return the best candidates of each feature of A, and of each feature of B."""
        best_a, best_b = self._best(self.best, self.units, codes(self.b))
        return pairs_of(best_a, best_b, of_a=self.of_a, of_b=self.of_b, units=len(self.units))

    def maxima(self, order: Ints) -> tuple[Floats, Floats]:
        """Return the best correlations after a permutation of B's rows.

        Parameters
        ----------
        order
            int64, one a compared unit: a permutation. B's row of unit ``order[u]`` is paired
            with A's row of unit u, both numbered among the compared units.

        Returns
        -------
        float64, for each feature of A and each feature of B; 0 if it has no candidate.
        """
        rows, of_b = fixed(self.units[order]), codes(self.b)
        if self._copied:
            of_b, rows = kernels.gathered(of_b, rows), fixed(np.arange(len(rows)))
        best_a, best_b = self._best(1, rows, of_b)
        return best_a[0][:, 0], best_b[0][:, 0]

    def pearson(self, a: Ints, b: Ints) -> Floats:
        """Return the correlations of pairs in order of (a, b); 0 for pairs that are no candidates."""
        out = np.zeros(len(a))
        wanted = np.searchsorted(a, np.arange(self.a.d_sae + 1)), np.asarray(b, dtype=np.int64)

        def correlate(columns: kernels.Columns, first: int, end: int) -> None:
            sides = self._sides(columns, self.units, codes(self.b))
            kernels.pearson_of(first, end, *sides, wanted, out)

        self._for_ranges(correlate)
        return out

    def _best(
        self, best: int, rows: Ints, of_b: kernels.Codes
    ) -> tuple[kernels.Lists, kernels.Lists]:
        _ = self.passes  # raises if the columns do not fit, before memory is allocated
        best_a = kernels.empty_lists(self.a.d_sae, best)
        best_b = kernels.empty_lists(self.b.d_sae, best)
        lock = threading.Lock()

        def correlate(columns: kernels.Columns, first: int, end: int) -> None:
            own = kernels.empty_lists(self.b.d_sae, best)
            kernels.correlate(first, end, *self._sides(columns, rows, of_b), best_a, own)
            with lock:
                kernels.join(best_b, own)

        self._for_ranges(correlate)
        return best_a, best_b

    def _for_ranges(self, work: Callable[[kernels.Columns, int, int], None]) -> None:
        """Call ``work`` in threads for ranges of A's features, with their columns."""
        for first, end, columns in self._columns():
            # More ranges than cores, since the time of each range is not known in advance.
            entries = columns[0][first : end + 1]
            ranges = min(4 * _cores(), 1 + int(entries[-1]) // _WORTH_A_THREAD)
            cuts = np.linspace(entries[0], entries[-1], ranges + 1)
            inner = first + np.searchsorted(entries, cuts[1:-1])
            in_threads(partial(work, columns), sorted({first, *inner.tolist(), end}))

    def _columns(self) -> Iterator[tuple[int, int, kernels.Columns]]:
        if self.passes == 1:
            yield 0, self.a.d_sae, self._all_columns
            return
        for first, end in itertools.pairwise(self._bounds):
            yield first, end, self._make_columns(first, end)

    @cached_property
    def _all_columns(self) -> kernels.Columns:
        return self._make_columns(0, self.a.d_sae)

    def _make_columns(self, first: int, end: int) -> kernels.Columns:
        included = np.zeros(self.a.d_sae, dtype=np.bool_)
        included[first:end] = self.of_a.eligible[first:end]
        bounds = np.concatenate([[0], np.cumsum(np.where(included, self.of_a.count, 0))])
        return kernels.columns(codes(self.a), self.units, bounds)

    @cached_property
    def _bounds(self) -> list[int]:
        """The bounds of the passes, in features of A."""
        entries = np.where(self.of_a.eligible, self.of_a.count, 0)
        room = (self.memory - self._fixed) // _ENTRY
        if len(entries) and room < entries.max():
            least = self._fixed + _ENTRY * int(entries.max())
            raise OutOfSpace(
                f"Matching {self.a.d_sae:,} features with {self.b.d_sae:,} over {len(self.units):,} "
                f"tokens needs at least {least / 2**20:,.1f} MiB in addition to the codes, but only "
                f"{self.memory / 2**20:,.1f} MiB are available. Allow more with `memory`."
            )
        done, bounds = np.cumsum(entries), [0]
        while bounds[-1] < len(entries):
            before = done[bounds[-1] - 1] if bounds[-1] else 0
            bounds.append(int(np.searchsorted(done, before + room, side="right")))
        return bounds if len(bounds) > 1 else [0, 0]

    @property
    def _fixed(self) -> int:
        """Bytes without the columns: moments, lists, units, the order of a draw, thread buffers."""
        a, b, best = self.a.d_sae, self.b.d_sae, 24 * self.best
        lines = 16 * b * max(1, min(a, kernels.LINES // (16 * max(b, 1))))
        copy = self._copy if self._copied else 0
        shared = (a + b) * (64 + best) + _UNIT * len(self.units) + copy
        return shared + _cores() * (lines + b * best)

    @property
    def _copy(self) -> int:
        """Bytes of a copy of B's codes, in the order of a draw."""
        return _ENTRY * (len(self.b.values) + len(self.b) + 1)

    @property
    def _copied(self) -> bool:
        """Whether a draw copies B's codes: rows in the order of their use are read faster."""
        return self._copy <= self.memory // 4

    def _sides(
        self, columns: kernels.Columns, rows: Ints, of_b: kernels.Codes
    ) -> tuple[kernels.Columns, kernels.SideA, kernels.Codes, Ints, kernels.SideB, int]:
        a, b = self.of_a, self.of_b
        # A feature active on most units is centred before it is summed: see kernels._fill.
        often = 2 * a.count > len(self.units)
        shift = np.where(often, a.mean, 0.0)
        total = np.where(often, a.rest, a.mean * len(self.units) + a.rest)
        side_a = shift, total, a.scale
        return columns, side_a, of_b, rows, (b.mean, b.scale), self.min_joint


def _cores() -> int:
    return os.cpu_count() or 1
