"""Examples: the texts on which each feature is most active, and a sample of its other texts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from atlas.errors import BadInput, OutOfSpace
from atlas.schema import arrow_schema
from ingest.codes.store import Block
from ingest.reduce import top_k
from ingest.reduce.arrays import Arrays, graph_table, keys, ranks
from ingest.reduce.protocol import Plan, ReducedSae, Sizes, Table

if TYPE_CHECKING:
    from ingest.reduce.protocol import CodeReduction

__all__ = ["FIFTHS", "Examples", "tables"]

# Rows computed at once, so that the texts of a chunk are far below the limit of 32-bit offsets.
_CHUNK = 1 << 16


def tables(
    kind: str, finals: Sequence[Arrays], subject: ReducedSae, *, fifths: int
) -> Iterator[Table]:
    """Yield the Example nodes and the SHOWN_BY edges.

    Parameters
    ----------
    kind
        The kind of part.
    finals
        Survivors of the top (a group is a feature) and, if there are two states, of the
        sample (a group is a fifth of a feature).
    subject
        The SAE.
    fifths
        Number of groups of the sample for each feature.
    """
    feature, section, source, slot = _in_order(finals, fifths)
    rank = ranks(feature)
    vocabulary = _Vocabulary(finals, subject)
    kinds = pa.array(["top", *(f"fifth {i + 1}" for i in range(fifths))])
    parts = [arrow_schema("Example", kind).empty_table()]
    for i in range(0, len(feature), _CHUNK):
        chunk = slice(i, i + _CHUNK)
        row = _rows(finals, source[chunk], slot[chunk])
        shown = np.arange(row["tokens"].shape[1]) < row["length"][:, None]
        offsets = pa.array(np.concatenate([[0], np.cumsum(row["length"])]).astype(np.int32))
        tokens = pa.ListArray.from_arrays(offsets, vocabulary(row["tokens"][shown]))
        activations = row["activations"].astype(np.float64)
        columns = {
            "id": keys(subject.sae, feature[chunk], rank[chunk]),
            "sae": pa.repeat(subject.sae, len(row["peak"])),
            "idx": feature[chunk],
            "rank": rank[chunk],
            "kind": kinds.take(pa.array(section[chunk])),
            "activation": activations[np.arange(len(activations)), row["peak"]],
            "text": pc.binary_join(tokens, ""),
            "tokens": tokens,
            "activations": pa.ListArray.from_arrays(offsets, pa.array(activations[shown])),
            "peak": row["peak"].astype(np.int64),
            "document": row["place"] >> 32,
            "start": row["start"].astype(np.int64),
        }
        parts.append(graph_table("Example", kind, columns).data)
    yield Table("Example", pa.concat_tables(parts))
    ends = {"source": keys(subject.sae, feature), "target": keys(subject.sae, feature, rank)}
    yield graph_table("SHOWN_BY", kind, ends)


def _in_order(finals: Sequence[Arrays], fifths: int) -> tuple[NDArray[np.int64], ...]:
    """Return feature, section (0 is the top), number of the state and slot, in display order."""
    parts = []
    for source, state in enumerate(finals):
        slot, group, _ = top_k.sort(state)
        one = (
            (group, np.zeros_like(group)) if source == 0 else (group // fifths, group % fifths + 1)
        )
        parts.append((*one, np.full_like(slot, source), slot))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    by = np.argsort(columns[0], kind="stable")
    return tuple(column[by] for column in columns)


def _rows(finals: Sequence[Arrays], source: NDArray[np.int64], slot: NDArray[np.int64]) -> Arrays:
    """Return some rows of the final states as columns."""
    out = {}
    for name in ("place", "start", "peak", "length", "tokens", "activations"):
        out[name] = finals[0][name][np.where(source == 0, slot, 0)]
        for i in range(1, len(finals)):
            out[name][source == i] = finals[i][name][slot[source == i]]
    return out


class _Vocabulary:
    """The texts of the tokens that occur, each decoded once."""

    def __init__(self, finals: Sequence[Arrays], subject: ReducedSae) -> None:
        used = [state["tokens"][: state["used"][0]] for state in finals]
        seen = np.zeros(1 + max((t.max() for t in used if t.size), default=0), dtype=np.bool_)
        for tokens in used:
            seen[tokens] = True
        ids = np.flatnonzero(seen).tolist()
        self.number = np.cumsum(seen) - 1
        self.texts = pa.array(subject.texts(ids), pa.string())

    def __call__(self, tokens: NDArray[np.int32]) -> pa.Array:
        """Return the text of each token."""
        return self.texts.take(pa.array(self.number[tokens]))


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
        OutOfSpace
            If the examples do not fit. All of them are in the tables, so more passes do not
            help.
        """
        passes = 2 if sizes.codes_stored and self.sample else 1
        active = math.ceil(sizes.tokens * sizes.l0)
        rows, fixed = min(sizes.d_sae * self.n, active), 4 * sizes.d_sae
        if passes == 2:
            rows += min(sizes.d_sae * FIFTHS * self.sample, active)
            fixed += (4 * FIFTHS + 8 + 4 + 8) * sizes.d_sae
        # Arrays grow by a quarter, so a fifth of them may be empty.
        need = fixed + math.ceil(1.25 * rows * top_k.row_bytes(self.window))
        if need > memory:
            raise OutOfSpace(
                f"{rows:,} examples of {self.window.width} tokens need {need / 2**20:,.1f} MiB "
                f"of memory, but only {memory / 2**20:,.1f} MiB are available. Raise `memory` "
                "(code that constructs Examples can use fewer or shorter examples)."
            )
        return Plan(passes=passes, bytes=need)

    def start(
        self, pass_index: int, before: Sequence[Arrays], *, sizes: Sizes, passes: int
    ) -> Arrays:
        """Return the empty state of a pass.

        Rows are as in ``top_k``; a group is a feature, or one of its fifths. The state of the
        second pass also has, for each feature: ``max`` (float64), and ``floor`` and
        ``floor_place``, the activation and position of the last of the top n (0 if all its
        tokens are in the top).
        """
        if pass_index == 0:
            return top_k.empty(sizes.d_sae, self.window)
        state = top_k.empty(sizes.d_sae * FIFTHS, self.window)
        return state | _first_pass_top(before[0], sizes.d_sae, n=self.n)

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

    def tables(self, finals: Sequence[Arrays], subject: ReducedSae) -> Iterator[Table]:
        """Yield the Example nodes and the SHOWN_BY edges: the top, then fifths 1 to 5."""
        return tables(self.name, finals, subject, fifths=FIFTHS)

    def _sampled(
        self, state: Arrays, block: Block
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
        """Return the entries outside the top, with their groups and hashes."""
        feature, place = block.indices.astype(np.int64), block.location[block.rows]
        floor = state["floor"][feature]
        tied = (block.values == floor) & (place > state["floor_place"][feature])
        entry = np.flatnonzero((block.values < floor) | tied)
        feature, place = feature[entry], place[entry]
        fifth = np.ceil(FIFTHS * block.values[entry].astype(np.float64) / state["max"][feature])
        group = feature * FIFTHS + fifth.astype(np.int64) - 1
        key = _mixed(_mixed(feature, self.seed), place) >> np.uint64(33)
        return entry, group, key.astype(np.uint32)


def _first_pass_top(top: Arrays, d_sae: int, *, n: int) -> Arrays:
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
