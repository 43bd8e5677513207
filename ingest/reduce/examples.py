"""Examples: the text on which each feature is most active, and a sample of the rest."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput, OutOfRoom
from ingest.codes.store import Block
from ingest.reduce import top_k
from ingest.reduce.arrays import Arrays, ranks
from ingest.reduce.example_tables import tables
from ingest.reduce.protocol import Plan, Sizes, Subject, Table

if TYPE_CHECKING:
    from ingest.reduce.protocol import CodeReduction

__all__ = ["FIFTHS", "Examples"]

FIFTHS = 5

_TOP_KEY = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True)
class Examples:
    """Per feature the ``n`` tokens of highest activation, and ``sample`` of each fifth.

    Ties go to the earlier place in the corpus. The sample, a second look where codes are
    kept, takes tokens by lowest hash of (seed, feature, place) from each fifth of (0,
    largest activation], those left out that are among the top already. Each comes with
    up to ``before`` and ``after`` tokens of its context.

    Tables: ``Example`` and ``SHOWN_BY``.
    """

    name: ClassVar[str] = "examples"
    version: ClassVar[int] = 1

    seed: int
    n: int = 20
    sample: int = 3
    before: int = 32
    after: int = 31

    def __post_init__(self) -> None:
        if self.n < 1 or min(self.sample, self.before, self.after) < 0:
            raise BadInput(
                f"Examples were asked for with n={self.n}, sample={self.sample}, before="
                f"{self.before}, after={self.after}; n must be 1 or more, the others 0 or more."
            )

    @property
    def window(self) -> top_k.Window:
        """The text kept around a peak."""
        return top_k.Window(self.before, self.after)

    def plan(self, sizes: Sizes, *, memory: int) -> Plan:
        """One look, and one for the sample where codes are kept; bytes of both states.

        Raises
        ------
        OutOfRoom
            If the examples do not fit: they are in the tables, so no division helps.
        """
        looks = 2 if sizes.codes_kept and self.sample else 1
        active = math.ceil(sizes.tokens * sizes.l0)
        rows, fixed = min(sizes.d_sae * self.n, active), 4 * sizes.d_sae
        if looks == 2:
            rows += min(sizes.d_sae * FIFTHS * self.sample, active)
            fixed += (4 * FIFTHS + 8 + 4 + 8) * sizes.d_sae
        # Arrays grow by a quarter, so a fifth of them may be empty.
        need = fixed + math.ceil(1.25 * rows * top_k.row_bytes(self.window))
        if need > memory:
            raise OutOfRoom(
                f"{rows:,} examples of {self.window.width} tokens take {need / 2**20:,.1f} MiB "
                f"of memory, and {memory / 2**20:,.1f} MiB are left for them; allow more with "
                "--memory (code that makes Examples itself can ask for fewer or shorter examples)."
            )
        return Plan(looks=looks, bytes=need)

    def start(self, look: int, before: Sequence[Arrays], *, sizes: Sizes, looks: int) -> Arrays:
        """Return the empty state of a look.

        Rows are as in ``survivors``; a group is a feature, or one of its fifths. The second
        look also holds, per feature: ``max`` (float64), and ``floor`` and ``floor_place``,
        the activation and the place of the last of the top n (0 if all are in the top).
        """
        if look == 0:
            return top_k.empty(sizes.d_sae, self.window)
        state = top_k.empty(sizes.d_sae * FIFTHS, self.window)
        return state | _known_top(before[0], sizes.d_sae, n=self.n)

    def update(self, state: Arrays, block: Block) -> None:
        """Take one block in."""
        if "max" in state:
            entry, group, key = self._sampled(state, block)
            n = self.sample
        else:
            entry, group = np.arange(len(block.values)), block.indices.astype(np.int64)
            # Bits of positive floats are in the order of the floats.
            key, n = _TOP_KEY - block.values.view(np.uint32), self.n
        top_k.admit(state, block, entry=entry, group=group, key=key, n=n, window=self.window)

    def merge(self, a: Arrays, b: Arrays) -> Arrays:
        """Return the state of both."""
        top_k.join(a, b, n=self.sample if "max" in a else self.n)
        return a

    def tables(self, finals: Sequence[Arrays], subject: Subject) -> Iterator[Table]:
        """Make the Example nodes and the SHOWN_BY edges: top first, then fifth 1 to 5."""
        return tables(self.name, finals, subject, fifths=FIFTHS)

    def _sampled(
        self, state: Arrays, block: Block
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
        """Return the entries outside the top, with their fifths and hashes."""
        feature, place = block.indices.astype(np.int64), block.place[block.rows]
        floor = state["floor"][feature]
        tied = (block.values == floor) & (place > state["floor_place"][feature])
        entry = np.flatnonzero((block.values < floor) | tied)
        feature, place = feature[entry], place[entry]
        fifth = np.ceil(FIFTHS * block.values[entry].astype(np.float64) / state["max"][feature])
        group = feature * FIFTHS + fifth.astype(np.int64) - 1
        key = _mixed(_mixed(feature, self.seed), place) >> np.uint64(33)
        return entry, group, key.astype(np.uint32)


def _known_top(top: Arrays, d_sae: int, *, n: int) -> Arrays:
    """Return what the second look must know of the first: see ``Examples.start``."""
    slot, feature, key = top_k.sort(top)
    value = (_TOP_KEY - key).view(np.float32)
    best = np.zeros(d_sae)
    np.maximum.at(best, feature, value.astype(np.float64))
    floor = np.zeros(d_sae, dtype=np.float32)
    floor_place = np.zeros(d_sae, dtype=np.int64)
    last = np.flatnonzero(ranks(feature) == n - 1)
    floor[feature[last]] = value[last]
    floor_place[feature[last]] = top["place"][slot[last]]
    return {"max": best, "floor": floor, "floor_place": floor_place}


def _mixed(a: NDArray[np.generic], b: NDArray[np.int64] | int) -> NDArray[np.uint64]:
    """Hash pairs of integers to 64 bits (the finaliser of SplitMix64)."""
    salt = np.asarray(b).astype(np.uint64) if not isinstance(b, int) else np.uint64(b % 2**64)
    z = (a.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + salt
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


if TYPE_CHECKING:
    _: CodeReduction = Examples(seed=0)
