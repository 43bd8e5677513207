"""Coactivation: pairs of features of an SAE that are active together."""

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

    Ties go to the lower index; inactive features are never chosen. In addition to the count of
    such tokens, an edge has statistics of all tokens on which both features are active. These
    joint counts are computed in a second pass, for the edges only. If codes are not stored,
    they are computed for all possible pairs, in memory quadratic in the number of features.

    If the pairs might not fit into memory, the first pass only counts. Each of several further
    passes finds the edges of a range of lower features. The last pass computes the joint
    counts.

    Table: ``CO_ACTIVATES``.
    """

    name: ClassVar[str] = "coactivation"
    version: ClassVar[int] = 1

    k: int = 4
    min_count: int = 1

    def __post_init__(self) -> None:
        if self.k < 1 or self.min_count < 1:
            raise BadInput(
                f"Co-activation has k={self.k} and min_count={self.min_count}; both must be 1 or more."
            )

    def plan(self, sizes: Sizes, *, memory: int) -> Plan:
        """Return one pass without stored codes, two with them, or more if pairs might not fit.

        If codes are stored, it uses at most half of the memory, since later reductions need
        some too. One or two passes suffice for any codes of these sizes. Three or more can
        find the edges, but the number of edges depends on the codes: ``start`` raises if they
        do not fit.

        Raises
        ------
        OutOfRoom
            If the codes are not stored and all possible pairs do not fit, or if the pairs of
            one lower feature might not fit.
        """
        return self._room(sizes).plan(memory)

    def start(self, look: int, before: Sequence[Arrays], *, sizes: Sizes, looks: int) -> Arrays:
        """Return the empty state of a pass, with one or more of three groups of arrays.

        First pass: ``tokens``, int64. For each feature, int64: ``active``, the number of its
        active tokens; ``chosen``, the number of tokens among whose most active features it is;
        ``ahead``, the number of pairs of chosen features in which it is the lower. And
        ``squares``, float64, the sum of its squared activations.

        Passes over pairs: ``range``, [first, last + 1) of lower features, and their pairs with
        counts and cosines times counts (see ``sorted_pair_counts``). After the pass, these
        become the arrays ``key``, ``count`` and ``total`` of edges.

        Last pass: ``joint``, int64, the number of tokens on which both features are active,
        and ``product``, float64, the sum of products of activations. They are for edges, with
        their ``key`` and the start of each lower feature (``at``). In a single pass they are
        for all pairs, in the order of the upper triangle.

        Raises
        ------
        OutOfRoom
            If there are more edges than the plan has memory for.
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
        """Add one block to the state."""
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
        """Merge two states."""
        for name in (*_COUNTS, "joint", "product"):
            if name in a:
                a[name] += b[name]
        if "runs" in a:
            sorted_pair_counts.join(a, b)
        return a

    def tables(self, finals: Sequence[Arrays], subject: Subject) -> Iterator[Table]:
        """Yield the CO_ACTIVATES edges, sorted by both features."""
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
        """Replace the pairs of a finished pass by its edges, in place."""
        if "runs" in state:
            key, count, total = sorted_pair_counts.take(state)
            edge = count >= self.min_count
            del state["runs"]
            state.update(key=key[edge], count=count[edge], total=total[edge])


def _edges(states: Sequence[Arrays]) -> Arrays:
    """Return the state with all edges, after moving them into one state."""
    with_edges = [state for state in states if "count" in state]
    if len(with_edges) > 1:
        for name in ("key", "count", "total"):
            with_edges[0][name] = np.concatenate([state.pop(name) for state in with_edges])
    return with_edges[0]


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
    """Return the joint counts and sums of products of the edges, from the last pass."""
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
    """Return the phi coefficient of being active; null if a feature is active on all tokens.

    Products of two counts are exact in 64 bits; products of four are not.
    """
    above = tokens * m - a * b
    below = np.sqrt(a * (tokens - a)) * np.sqrt(b * (tokens - b))
    always = below == 0
    phi = np.clip(above / np.where(always, 1.0, below), -1.0, 1.0)
    return nullable(phi, null=always)


if TYPE_CHECKING:
    _: CodeReduction = Coactivation()
