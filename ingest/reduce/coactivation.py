"""Coactivation: pairs of features of an SAE that are active together."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput, OutOfSpace
from ingest.codes.store import Block
from ingest.reduce import pair_counting, sorted_pair_counts
from ingest.reduce.arrays import Arrays, graph_table, keys, nullable
from ingest.reduce.protocol import Plan, ReducedSae, Sizes, Table

if TYPE_CHECKING:
    import pyarrow as pa

    from ingest.reduce.protocol import CodeReduction

__all__ = ["Coactivation", "EdgeMemory", "equal_range", "possible_pairs"]

# A joint count (int64) and a sum of products (float64), once for all previous shards and once
# for the current shard.
_JOINT_BYTES = 2 * 16

_EDGE_BYTES = sorted_pair_counts.ENTRY_BYTES + _JOINT_BYTES

# Numbers of 8 bytes for each feature: active, chosen, ahead, squares, and twice ``at``.
_FEATURE_NUMBERS = 6


@dataclass(frozen=True)
class EdgeMemory:
    """Bytes that co-activation needs for codes of some size.

    Passes are those of ``Coactivation``: one for all possible pairs; two for pairs and then
    edges; or one that counts, one for each range of pairs, and one for edges.
    """

    sizes: Sizes
    k: int
    min_count: int

    @property
    def met(self) -> int:
        """Largest number of pairs of chosen features in all tokens together.

        A token with n chosen features has n (n - 1) / 2 pairs, and n is at most k.
        """
        n = min(self.k, self.sizes.d_sae)
        return math.ceil(self.sizes.tokens * min(n, self.sizes.l0) * (n - 1) / 2)

    @property
    def fixed(self) -> int:
        """Bytes that do not depend on the number of pairs."""
        return 8 * _FEATURE_NUMBERS * (self.sizes.d_sae + 1)

    @property
    def runs(self) -> int:
        """Bytes of all pairs of chosen features."""
        return sorted_pair_counts.most_bytes(self.met, possible_pairs(self.sizes.d_sae))

    @property
    def one_feature(self) -> int:
        """Bytes of the pairs in which one feature has the lower index."""
        n = min(self.k, self.sizes.d_sae)
        return sorted_pair_counts.most_bytes(self.sizes.tokens * (n - 1), self.sizes.d_sae - 1)

    @property
    def edges(self) -> int:
        """Bytes of all edges."""
        pairs = possible_pairs(self.sizes.d_sae)
        return _EDGE_BYTES * min(self.met // self.min_count, pairs)

    def plan(self, memory: int) -> Plan:
        """Return the number of passes and bytes; see ``Coactivation.plan``."""
        width = f"Co-activation of {self.sizes.d_sae:,} features"
        allowed = f"but only {memory / 2**20:,.1f} MiB are available"
        if not self.sizes.codes_stored:
            need = self.fixed + self.runs + _JOINT_BYTES * possible_pairs(self.sizes.d_sae)
            if need > memory:
                raise OutOfSpace(
                    f"{width} without stored codes needs {need / 2**20:,.1f} MiB of memory, "
                    f"{allowed}. Use `keep_codes=True`, so that the codes can be read twice, or raise "
                    "`memory`."
                )
            return Plan(passes=1, bytes=need)
        need = self.fixed + max(self.runs, self.edges)
        if need <= memory // 2:
            return Plan(passes=2, bytes=need)
        per_chunk = (memory // 2 - self.fixed) // 2 - self.one_feature
        if per_chunk <= 0:
            least = 2 * (self.fixed + 2 * (self.one_feature + 1))
            raise OutOfSpace(
                f"{width} needs at least {least / 2**20:,.1f} MiB of memory, {allowed}. Raise "
                "`memory`."
            )
        passes = math.ceil(self.runs / per_chunk) + 2
        return Plan(passes=passes, bytes=self.fixed + self.set_aside(passes))

    def set_aside(self, passes: int) -> int:
        """Return the bytes that three or more passes have for pairs: half a range, half edges."""
        return 2 * (math.ceil(self.runs / (passes - 2)) + self.one_feature)

    def check(self, edges: int, *, passes: int) -> None:
        """Check that the edges so far fit into the memory that the plan has for them.

        Raises
        ------
        OutOfSpace
            If they do not fit.
        """
        need, room = edges * _EDGE_BYTES, self.set_aside(passes)
        if need > room:
            raise OutOfSpace(
                f"At least {edges:,} pairs of features are together among the {self.k} most active "
                f"of at least {self.min_count} tokens. As edges they need {need / 2**20:,.1f} MiB of "
                f"memory, but only {room / 2**20:,.1f} MiB are planned. Use a higher `min_count` or "
                "a lower `k`, or raise `memory`. The codes are stored and need not be computed again."
            )


def possible_pairs(d_sae: int) -> int:
    """Return the number of pairs of features."""
    return d_sae * (d_sae - 1) // 2


def equal_range(ahead: NDArray[np.int64], number: int, *, ranges: int) -> NDArray[np.int64]:
    """Return [first, last + 1) of one of several ranges of features that need similar memory.

    Parameters
    ----------
    ahead
        Number of pairs in which each feature has the lower index. A feature stores at most
        these, and at most twice the number of features of higher index (see
        ``sorted_pair_counts.most_bytes``).
    number, ranges
        The number of the range, and the number of ranges.
    """
    d_sae = len(ahead)
    most = np.cumsum(np.minimum(ahead, 2 * np.arange(d_sae - 1, -1, -1)))
    inner = np.searchsorted(most, most[-1] * np.arange(1, ranges) / ranges)
    return np.array([0, *inner, d_sae])[number : number + 2]


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
        OutOfSpace
            If the codes are not stored and all possible pairs do not fit, or if the pairs of
            one lower feature might not fit.
        """
        return self._edge_memory(sizes).plan(memory)

    def start(
        self, pass_index: int, before: Sequence[Arrays], *, sizes: Sizes, passes: int
    ) -> Arrays:
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
        OutOfSpace
            If there are more edges than the plan has memory for.
        """
        for state in before:
            self._end(state)
        if passes > 2:
            edges = sum(len(state["count"]) for state in before if "count" in state)
            self._edge_memory(sizes).check(edges, passes=passes)
        begun: Arrays = {}
        if pass_index == 0:
            begun |= {name: np.zeros(sizes.d_sae, dtype=np.int64) for name in _COUNTS}
            begun |= {"tokens": np.zeros(1, dtype=np.int64), "squares": np.zeros(sizes.d_sae)}
        if pass_index == 0 and passes <= 2:
            begun |= {"range": np.array([0, sizes.d_sae]), **sorted_pair_counts.empty()}
        elif 0 < pass_index < passes - 1:
            bounds = equal_range(before[0]["ahead"], pass_index - 1, ranges=passes - 2)
            begun |= {"range": bounds, **sorted_pair_counts.empty()}
        if pass_index == passes - 1:
            begun |= (
                _features_of_keys(_edges(before)["key"], sizes.d_sae)
                if pass_index
                else _all(sizes.d_sae)
            )
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

    def tables(self, finals: Sequence[Arrays], subject: ReducedSae) -> Iterator[Table]:
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

    def _edge_memory(self, sizes: Sizes) -> EdgeMemory:
        return EdgeMemory(sizes, self.k, self.min_count)

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


def _features_of_keys(key: NDArray[np.int64], d_sae: int) -> Arrays:
    at = np.searchsorted(key, np.arange(d_sae + 1) << 32)
    joint, product = np.zeros(len(key), dtype=np.int64), np.zeros(len(key))
    return {"key": key, "at": at, "joint": joint, "product": product}


def _all(d_sae: int) -> Arrays:
    pairs = possible_pairs(d_sae)
    return {"joint": np.zeros(pairs, dtype=np.int64), "product": np.zeros(pairs)}


def _add_joint(state: Arrays, codes: pair_counting.Codes) -> None:
    joint, product = state["joint"], state["product"]
    if "at" in state:
        pair_counting.add_to_keys(codes, state["key"], state["at"], joint=joint, product=product)
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
    state = _features_of_keys(key, codes.d_sae)
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
