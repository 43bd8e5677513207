"""TokenCounts: the most frequent tokens of each feature."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.errors import BadInput, OutOfSpace
from ingest.codes.store import Block
from ingest.reduce import sorted_pair_counts
from ingest.reduce.arrays import Arrays, by_feature, changes, graph_table, keys, nullable, ranks
from ingest.reduce.protocol import Plan, ReducedSae, Sizes, Table
from ingest.reduce.sorted_pair_counts import Run

if TYPE_CHECKING:
    from ingest.reduce.protocol import CodeReduction

__all__ = ["TokenCounts", "token_run"]


def token_run(block: Block, *, first: int, end: int) -> Run:
    """Return the run of the features in [first, end); see ``sorted_pair_counts``.

    Keys are ``feature << 32 | token``; totals are sums of activations.
    """
    by_token = np.argsort(block.tokens.token_id, kind="stable")
    token = block.tokens.token_id[by_token].astype(np.int64)
    columns = by_feature(block, by_token)
    begin, stop = columns.indptr[first], columns.indptr[end]
    feature = np.repeat(np.arange(first, end), np.diff(columns.indptr[first : end + 1]))
    key = (feature << 32) | token[columns.indices[begin:stop]]
    starts = np.flatnonzero(changes(key))
    if not len(starts):
        return key, np.zeros(0, dtype=np.int64), np.zeros(0)
    total = np.add.reduceat(columns.data[begin:stop], starts, dtype=np.float64)
    return key[starts], np.diff(starts, append=len(key)), total


# Number of most frequent tokens that determine the wordless share of a feature.
_FREQUENT = 5


@dataclass(frozen=True)
class TokenCounts:
    """The ``top`` tokens on which each feature is most often active (ties: the lower token id).

    Every occurring pair of feature and token is counted, so memory grows with the number of
    distinct pairs. If they do not fit, each of several passes counts a range of features, and
    reduces the states of the previous passes to the tokens that the tables need.

    Tables: ``Token`` (the targets of edges), ``FIRES_ON`` and ``Feature``.
    """

    name: ClassVar[str] = "tokens"
    version: ClassVar[int] = 2

    top: int = 20

    def __post_init__(self) -> None:
        if self.top < 1:
            raise BadInput(f"TokenCounts has top={self.top}; expected 1 or more.")

    def plan(self, sizes: Sizes, *, memory: int) -> Plan:
        """Return one pass for each range of features that fits; one pass if codes are not stored.

        Raises
        ------
        OutOfSpace
            If one pass does not fit and the codes are not stored, or not even one feature
            fits.
        """
        entries, possible = math.ceil(sizes.tokens * sizes.l0), sizes.d_sae * sizes.vocabulary
        most = sorted_pair_counts.most_bytes(entries, possible)
        per_feature = most / sizes.d_sae
        occurrences = 8 * (sizes.vocabulary + 3)
        need = occurrences + most
        if need <= memory:
            return Plan(passes=1, bytes=need)
        problem = (
            f"Counting the tokens of {sizes.d_sae:,} features over {sizes.tokens:,} tokens may "
            f"need {need / 2**20:,.0f} MiB of memory, but only {memory / 2**20:,.0f} MiB are allowed"
        )
        if not sizes.codes_stored:
            raise OutOfSpace(
                f"{problem}. Raise `memory`, use fewer tokens, or use `keep_codes=True`, so that several "
                "passes are possible."
            )
        # The tokens that the tables need of the previous passes stay in memory.
        fixed = occurrences + min(24 * self._top * sizes.d_sae, most) + 8 * sizes.d_sae
        if fixed + per_feature > memory:
            raise OutOfSpace(
                f"{problem}, which is too little for a single feature. Raise `memory`."
            )
        per_chunk = max(1, math.floor((memory - fixed) / max(per_feature, 1)))
        passes = math.ceil(sizes.d_sae / per_chunk)
        wide = math.ceil(sizes.d_sae / passes)
        return Plan(passes=passes, bytes=fixed + math.ceil(per_feature * wide))

    def start(
        self, pass_index: int, before: Sequence[Arrays], *, sizes: Sizes, passes: int
    ) -> Arrays:
        """Return the empty state of a pass over a range of features.

        ``occurrences`` (int64, vocabulary; in the first pass only) counts each token, with or
        without features. ``range`` is [first, last + 1). The other arrays are the counts, see
        ``sorted_pair_counts``.
        """
        for state in before:
            _cut(state, self._top)
        wide = math.ceil(sizes.d_sae / passes)
        bounds = np.minimum(np.array([pass_index, pass_index + 1]) * wide, sizes.d_sae)
        occurrences = np.zeros(sizes.vocabulary if pass_index == 0 else 0, dtype=np.int64)
        return {"range": bounds, "occurrences": occurrences, **sorted_pair_counts.empty()}

    def update(self, state: Arrays, block: Block) -> None:
        """Add one block to the state."""
        if vocabulary := len(state["occurrences"]):
            state["occurrences"] += np.bincount(block.tokens.token_id, minlength=vocabulary)
        first, end = state["range"]
        sorted_pair_counts.push(state, token_run(block, first=int(first), end=int(end)))

    def merge(self, a: Arrays, b: Arrays) -> Arrays:
        """Merge two states."""
        a["occurrences"] = a["occurrences"] + b["occurrences"]
        sorted_pair_counts.join(a, b)
        return a

    def tables(self, finals: Sequence[Arrays], subject: ReducedSae) -> Iterator[Table]:
        """Yield the Token nodes, the FIRES_ON edges, and the top token and wordless share."""
        for state in finals:
            _cut(state, self._top)
        key, count, total, active = (
            np.concatenate([state[name] for state in finals])
            for name in ("key", "count", "total", "active")
        )
        feature, token = key >> 32, key & 0xFFFFFFFF
        rank = ranks(feature)
        named, which = np.unique(token, return_inverse=True)
        texts = subject.texts(named.tolist())
        edge = np.flatnonzero(rank < self.top)
        yield _tokens(np.unique(which[edge]), named, texts=texts, subject=subject)
        yield graph_table(
            "FIRES_ON",
            self.name,
            {
                "source": keys(subject.sae, feature[edge]),
                "target": keys(subject.tokenizer, named).take(pa.array(which[edge])),
                "rank": rank[edge],
                "count": count[edge],
                "share": count[edge] / active[feature[edge]],
                "rate": count[edge] / finals[0]["occurrences"][token[edge]],
                "mean_activation": total[edge] / count[edge],
            },
        )
        best = np.zeros(len(active), dtype=np.int64)
        best[feature[rank == 0]] = which[rank == 0]
        dead = active == 0
        common = rank < _FREQUENT
        columns = {
            "id": keys(subject.sae, np.arange(len(active))),
            "top_token": pa.array(texts, pa.string()).take(pa.array(best, mask=dead)),
            "wordless_share": nullable(
                _share(_wordless(texts)[which[common]], feature[common], features=len(active)),
                null=dead,
            ),
        }
        yield graph_table("Feature", self.name, columns)

    @property
    def _top(self) -> int:
        """Number of tokens of each feature that the tables need."""
        return max(self.top, _FREQUENT)


def _tokens(
    which: NDArray[np.int64], named: NDArray[np.int64], *, texts: Sequence[str], subject: ReducedSae
) -> Table:
    """Return the Token nodes of some of the named tokens."""
    columns = {
        "id": keys(subject.tokenizer, named[which]),
        "tokenizer": [subject.tokenizer] * len(which),
        "token_id": named[which],
        "text": pa.array(texts, pa.string()).take(pa.array(which)),
    }
    return graph_table("Token", TokenCounts.name, columns)


def _wordless(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Return which texts have no letter and no digit."""
    return np.array([not any(map(str.isalnum, text)) for text in texts], dtype=np.bool_)


def _share(
    yes: NDArray[np.bool_], group: NDArray[np.int64], *, features: int
) -> NDArray[np.float64]:
    """Return the share of True in each group; 0 for an empty group."""
    size = np.bincount(group, minlength=features)
    return np.bincount(group[yes], minlength=features) / np.maximum(size, 1)


def _cut(state: Arrays, top: int) -> None:
    """Reduce a final state, in place, to each feature's top tokens and its number of active tokens."""
    if "active" in state:
        return
    key, count, total = sorted_pair_counts.take(state)
    feature = key >> 32
    first, end = state["range"]
    active = np.zeros(int(end - first), dtype=np.int64)
    np.add.at(active, feature - first, count)
    # The keys ascend by token within a feature, so a stable sort preserves their order in ties.
    by = np.argsort((feature << 32) - count, kind="stable")
    by = by[ranks(feature) < top]
    state.update(active=active, key=key[by], count=count[by], total=total[by])


if TYPE_CHECKING:
    _: CodeReduction = TokenCounts()
