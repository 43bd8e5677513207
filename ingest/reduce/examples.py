"""Examples: the texts on which each feature is most active, and a sample of its other texts."""

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
    """For each feature, the ``n`` tokens of highest activation, and ``sample`` tokens of each fifth.

    Ties go to the earlier position in the corpus. The sample needs a second pass over stored
    codes. From each fifth of (0, largest activation] it takes the tokens of lowest hash of
    (seed, feature, position), without the top tokens. Each example has up to ``before`` and
    ``after`` tokens of its context.

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
                f"Examples has n={self.n}, sample={self.sample}, before={self.before}, after="
                f"{self.after}; n must be 1 or more, the others 0 or more."
            )

    @property
    def window(self) -> top_k.Window:
        """The text stored around a peak."""
        return top_k.Window(self.before, self.after)

    def plan(self, sizes: Sizes, *, memory: int) -> Plan:
        """Return one pass, or two if codes are stored (for the sample), and the bytes of both.

        Raises
        ------
        OutOfRoom
            If the examples do not fit. All of them are in the tables, so more passes do not
            help.
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
                f"{rows:,} examples of {self.window.width} tokens need {need / 2**20:,.1f} MiB "
                f"of memory, but only {memory / 2**20:,.1f} MiB are available. Raise --memory "
                "(code that constructs Examples can use fewer or shorter examples)."
            )
        return Plan(looks=looks, bytes=need)

    def start(self, look: int, before: Sequence[Arrays], *, sizes: Sizes, looks: int) -> Arrays:
        """Return the empty state of a pass.

        Rows are as in ``top_k``; a group is a feature, or one of its fifths. The state of the
        second pass also has, for each feature: ``max`` (float64), and ``floor`` and
        ``floor_place``, the activation and position of the last of the top n (0 if all its
        tokens are in the top).
        """
        if look == 0:
            return top_k.empty(sizes.d_sae, self.window)
        state = top_k.empty(sizes.d_sae * FIFTHS, self.window)
        return state | _known_top(before[0], sizes.d_sae, n=self.n)

    def update(self, state: Arrays, block: Block) -> None:
        """Add one block to the state."""
        if "max" in state:
            entry, group, key = self._sampled(state, block)
            n = self.sample
        else:
            entry, group = np.arange(len(block.values)), block.indices.astype(np.int64)
            # The bits of positive floats sort like the floats.
            key, n = _TOP_KEY - block.values.view(np.uint32), self.n
        top_k.admit(state, block, entry=entry, group=group, key=key, n=n, window=self.window)

    def merge(self, a: Arrays, b: Arrays) -> Arrays:
        """Merge two states."""
        top_k.join(a, b, n=self.sample if "max" in a else self.n)
        return a

    def tables(self, finals: Sequence[Arrays], subject: Subject) -> Iterator[Table]:
        """Yield the Example nodes and the SHOWN_BY edges: the top, then fifths 1 to 5."""
        return tables(self.name, finals, subject, fifths=FIFTHS)

    def _sampled(
        self, state: Arrays, block: Block
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
        """Return the entries outside the top, with their groups and hashes."""
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
    """Return the statistics of the top that the second pass needs; see ``Examples.start``."""
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
