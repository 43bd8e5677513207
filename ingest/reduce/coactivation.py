"""Coactivation: which features of an SAE are active together, and how strongly."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput
from ingest.codes.store import Block
from ingest.reduce import pair_counting, sorted_pair_counts
from ingest.reduce.arrays import Arrays
from ingest.reduce.arrow_columns import graph_table, keys, nullable
from ingest.reduce.memory_plan import EdgeRoom, equal_range, possible_pairs
from ingest.reduce.protocol import Plan, Sizes, Subject, Table

if TYPE_CHECKING:
    import pyarrow as pa

    from ingest.reduce.protocol import CodeReduction

__all__ = ["Coactivation"]

_COUNTS = ("tokens", "active", "chosen", "ahead", "squares")


@dataclass(frozen=True)
class Coactivation:
    """Pairs of features that are together among the ``k`` most active of ``min_count`` tokens.

    Ties go to the lower index, and only active features are among the most active. Besides
    the count of such tokens, an edge tells how often and how strongly both are active at
    all. These joint counts are made in a second look, for the pairs that have become edges;
    where codes are not kept, for all pairs there could be, in memory that grows with the
    square of the width.

    Where the pairs might not fit, the first look only counts, each of several looks that
    follow takes a range of lower features and leaves what has become an edge, and the last
    look makes the joint counts.

    Table: ``CO_ACTIVATES``.
    """

    name: ClassVar[str] = "coactivation"
    version: ClassVar[int] = 1

    k: int = 4
    min_count: int = 1

    def __post_init__(self) -> None:
        if self.k < 1 or self.min_count < 1:
            raise BadInput(
                f"Co-activation was asked for with k={self.k} and min_count={self.min_count}; "
                "both must be 1 or more."
            )

    def plan(self, sizes: Sizes, *, memory: int) -> Plan:
        """One look without kept codes, two with them, more where pairs might not fit.

        Of the memory it takes half at most if codes are kept, since what comes after it
        wants some too. One or two looks have room for any codes of these sizes. Three or
        more have room to find the edges; only the codes can tell whether these fit, and
        ``start`` refuses them if not.

        Raises
        ------
        OutOfRoom
            If the codes are not kept and all pairs there could be do not fit, or if the
            pairs of one lower feature might not.
        """
        return self._room(sizes).plan(memory)

    def start(self, look: int, before: Sequence[Arrays], *, sizes: Sizes, looks: int) -> Arrays:
        """Return the empty state of a look, which has one or more of three things.

        The first look: ``tokens``, int64; per feature, ``active``, tokens on which it is,
        ``chosen``, tokens among whose most active it is, and ``ahead``, pairs of chosen
        features in which it is the lower, int64; and ``squares``, float64, of its activations.

        A look at pairs: ``range``, [first, last + 1) of lower features, and their pairs with
        counts and cosines times counts, see ``runs``; once the look has ended, these become
        arrays ``key``, ``count`` and ``total`` of edges.

        The last look: ``joint``, int64, tokens on which both are active, and ``product``,
        float64, the sum of products of activations; for edges, with their ``key`` and where
        those of each lower feature begin (``at``), or, if it is the only look, for all pairs
        in the order of the upper triangle.

        Raises
        ------
        OutOfRoom
            If there are more edges than three looks or more have room for.
        """
        for state in before:
            self._end(state)
        if looks > 2:
            edges = sum(len(state["count"]) for state in before if "count" in state)
            self._room(sizes).check(edges, looks=looks)
        begun: Arrays = {}
        if look == 0:
            begun |= {name: np.zeros(sizes.d_sae, dtype=np.int64) for name in _COUNTS}
            begun |= {"tokens": np.zeros(1, dtype=np.int64), "squares": np.zeros(sizes.d_sae)}
        if look == 0 and looks <= 2:
            begun |= {"range": np.array([0, sizes.d_sae]), **sorted_pair_counts.empty()}
        elif 0 < look < looks - 1:
            bounds = equal_range(before[0]["ahead"], look - 1, ranges=looks - 2)
            begun |= {"range": bounds, **sorted_pair_counts.empty()}
        if look == looks - 1:
            begun |= _known(_edges(before)["key"], sizes.d_sae) if look else _all(sizes.d_sae)
        return begun

    def update(self, state: Arrays, block: Block) -> None:
        """Take one block in."""
        if "tokens" in state:
            state["tokens"] += len(block)
        first, end = state.get("range", (0, 0))
        if not len(block.values) or not (first < end or "tokens" in state or "joint" in state):
            return
        codes = pair_counting.codes_of(block)
        squares = codes.sums(codes.values**2)
        if first < end or "tokens" in state:
            top = pair_counting.part(codes, pair_counting.chosen(codes, self.k))
        if "tokens" in state:
            state["active"] += codes.counts()
            state["chosen"] += top.counts()
            state["ahead"] += top.sums(top.ahead).astype(np.int64)
            state["squares"] += squares
        if first < end:
            sorted_pair_counts.push(state, _run(codes, top, np.sqrt(squares), first=first, end=end))
        if "joint" in state:
            _add_joint(state, codes)

    def merge(self, a: Arrays, b: Arrays) -> Arrays:
        """Return the state of both."""
        for name in (*_COUNTS, "joint", "product"):
            if name in a:
                a[name] += b[name]
        if "runs" in a:
            sorted_pair_counts.join(a, b)
        return a

    def tables(self, finals: Sequence[Arrays], subject: Subject) -> Iterator[Table]:
        """Make the CO_ACTIVATES edges, in the order of both features."""
        for state in finals:
            self._end(state)
        edges, counts = _edges(finals), finals[0]
        i, j = edges["key"] >> 32, edges["key"] & 0xFFFFFFFF
        m, product = _joint(finals[-1], i, j, d_sae=subject.d_sae)
        active, chosen, norm = counts["active"], counts["chosen"], np.sqrt(counts["squares"])
        tokens = max(int(counts["tokens"][0]), 1)
        columns = {
            "source": keys(subject.sae, i),
            "target": keys(subject.sae, j),
            "count": edges["count"],
            "expected": chosen[i] * chosen[j] / tokens,
            "weight": np.minimum(edges["total"] / edges["count"], 1.0),
            "cosine": np.minimum(product / (norm[i] * norm[j]), 1.0),
            "joint_count": m,
            "jaccard": m / (active[i] + active[j] - m),
            "phi": _phi(m, active[i], active[j], tokens=tokens),
            "lift": m * tokens / (active[i] * active[j]),
        }
        yield graph_table("CO_ACTIVATES", self.name, columns)

    def _room(self, sizes: Sizes) -> EdgeRoom:
        return EdgeRoom(sizes, self.k, self.min_count)

    def _end(self, state: Arrays) -> None:
        """Turn the pairs of an ended look, in place, into edges."""
        if "runs" in state:
            key, count, total = sorted_pair_counts.take(state)
            edge = count >= self.min_count
            del state["runs"]
            state.update(key=key[edge], count=count[edge], total=total[edge])


def _edges(states: Sequence[Arrays]) -> Arrays:
    """Return the state that holds the edges, after moving them all into one."""
    held = [state for state in states if "count" in state]
    if len(held) > 1:
        for name in ("key", "count", "total"):
            held[0][name] = np.concatenate([state.pop(name) for state in held])
    return held[0]


def _known(key: NDArray[np.int64], d_sae: int) -> Arrays:
    at = np.searchsorted(key, np.arange(d_sae + 1) << 32)
    joint, product = np.zeros(len(key), dtype=np.int64), np.zeros(len(key))
    return {"key": key, "at": at, "joint": joint, "product": product}


def _all(d_sae: int) -> Arrays:
    pairs = possible_pairs(d_sae)
    return {"joint": np.zeros(pairs, dtype=np.int64), "product": np.zeros(pairs)}


def _add_joint(state: Arrays, codes: pair_counting.Codes) -> None:
    joint, product = state["joint"], state["product"]
    if "at" in state:
        pair_counting.add_known(codes, state["key"], state["at"], joint=joint, product=product)
    else:
        pair_counting.add_all(codes, joint=joint, product=product)


def _joint(
    state: Arrays, i: NDArray[np.int64], j: NDArray[np.int64], *, d_sae: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the joint counts and sums of products of the edges, from the last look's state."""
    if "at" in state:
        return state["joint"], state["product"]
    where = i * (2 * d_sae - i - 1) // 2 + j - i - 1
    return state["joint"][where], state["product"][where]


def _run(
    codes: pair_counting.Codes,
    top: pair_counting.Codes,
    norm: NDArray[np.float64],
    *,
    first: int,
    end: int,
) -> sorted_pair_counts.Run:
    """Return the pairs of a block's chosen features, with counts and cosines times counts."""
    key, count = pair_counting.count_pairs(top, first=first, end=end)
    state = _known(key, codes.d_sae)
    _add_joint(state, codes)
    return key, count, count * state["product"] / (norm[key >> 32] * norm[key & 0xFFFFFFFF])


def _phi(
    m: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64], *, tokens: int
) -> "pa.Array":
    """Return phi of being active, null where a feature is active on all tokens.

    Products of two counts are exact in 64 bits; products of four are not.
    """
    above = tokens * m - a * b
    below = np.sqrt(a * (tokens - a)) * np.sqrt(b * (tokens - b))
    always = below == 0
    phi = np.clip(above / np.where(always, 1.0, below), -1.0, 1.0)
    return nullable(phi, null=always)


if TYPE_CHECKING:
    _: CodeReduction = Coactivation()
