"""TokenCounts: the tokens that each feature is active on most often."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from atlas.errors import BadInput, OutOfRoom
from ingest.codes import Block
from ingest.reduce import pairs
from ingest.reduce.arrays import Arrays, ranks
from ingest.reduce.columns import graph_table, keys
from ingest.reduce.protocol import Plan, Sizes, Subject, Table

if TYPE_CHECKING:
    from ingest.reduce.protocol import CodeReduction

__all__ = ["TokenCounts"]


@dataclass(frozen=True)
class TokenCounts:
    """Per feature the ``top`` tokens it is active on most often (ties: the lower token id).

    Every pair of a feature and a token that occurs is counted, so memory grows with
    distinct pairs. Where they would not fit, each of several looks takes a range of
    features, and cuts the states of the looks before to what the tables need.

    Tables: ``Token`` (those that an edge names), ``FIRES_ON`` and ``Feature``.
    """

    name: ClassVar[str] = "tokens"
    version: ClassVar[int] = 1

    top: int = 20

    def __post_init__(self) -> None:
        if self.top < 1:
            raise BadInput(f"top={self.top} tokens a feature were asked for; ask for 1 or more.")

    def plan(self, sizes: Sizes, *, memory: int) -> Plan:
        """As many looks as ranges of features that fit; one look if codes are not kept.

        Raises
        ------
        OutOfRoom
            If one look does not fit and the codes are not kept, or nothing fits.
        """
        entries, possible = math.ceil(sizes.tokens * sizes.l0), sizes.d_sae * sizes.vocabulary
        most = pairs.most_bytes(entries, possible)
        per_feature = most / sizes.d_sae
        occurrences = 8 * (sizes.vocabulary + 3)
        need = occurrences + most
        if need <= memory:
            return Plan(looks=1, bytes=need)
        said = (
            f"Counting the tokens of {sizes.d_sae:,} features over {sizes.tokens:,} tokens may "
            f"take {need / 2**20:,.0f} MiB of memory, and {memory / 2**20:,.0f} MiB are allowed"
        )
        if not sizes.codes_kept:
            raise OutOfRoom(
                f"{said}; allow more memory, take fewer tokens, or keep the codes, so that it "
                "can be done in several looks."
            )
        # What the tables need of the looks before stays.
        fixed = occurrences + min(24 * self.top * sizes.d_sae, most) + 8 * sizes.d_sae
        if fixed + per_feature > memory:
            raise OutOfRoom(f"{said}, too little even for a feature at a time; allow more memory.")
        at_once = max(1, math.floor((memory - fixed) / max(per_feature, 1)))
        looks = math.ceil(sizes.d_sae / at_once)
        wide = math.ceil(sizes.d_sae / looks)
        return Plan(looks=looks, bytes=fixed + math.ceil(per_feature * wide))

    def start(self, look: int, before: Sequence[Arrays], *, sizes: Sizes, looks: int) -> Arrays:
        """Return the empty state of a look at its range of features.

        ``occurrences`` (int64, vocabulary; the first look's) counts each token, with or
        without features; ``range`` is [first, last + 1); the rest is the counts, see ``pairs``.
        """
        for state in before:
            _cut(state, self.top)
        wide = math.ceil(sizes.d_sae / looks)
        bounds = np.minimum(np.array([look, look + 1]) * wide, sizes.d_sae)
        occurrences = np.zeros(sizes.vocabulary if look == 0 else 0, dtype=np.int64)
        return {"range": bounds, "occurrences": occurrences, **pairs.empty()}

    def update(self, state: Arrays, block: Block) -> None:
        """Take one block in."""
        if vocabulary := len(state["occurrences"]):
            state["occurrences"] += np.bincount(block.tokens.token_id, minlength=vocabulary)
        first, end = state["range"]
        pairs.add(state, block, first=int(first), end=int(end))

    def merge(self, a: Arrays, b: Arrays) -> Arrays:
        """Return the state of both."""
        a["occurrences"] = a["occurrences"] + b["occurrences"]
        pairs.join(a, b)
        return a

    def tables(self, finals: Sequence[Arrays], subject: Subject) -> Iterator[Table]:
        """Make the Token nodes, the FIRES_ON edges and each feature's top token."""
        for state in finals:
            _cut(state, self.top)
        key, count, total, active = (
            np.concatenate([state[name] for state in finals])
            for name in ("key", "count", "total", "active")
        )
        feature, token = key >> 32, key & 0xFFFFFFFF
        rank = ranks(feature)
        named, which = np.unique(token, return_inverse=True)
        texts = pa.array(subject.texts(named.tolist()), pa.string())
        ids = keys(subject.tokenizer, named)
        yield graph_table(
            "Token",
            self.name,
            {
                "id": ids,
                "tokenizer": [subject.tokenizer] * len(named),
                "token_id": named,
                "text": texts,
            },
        )
        yield graph_table(
            "FIRES_ON",
            self.name,
            {
                "source": keys(subject.sae, feature),
                "target": ids.take(pa.array(which)),
                "rank": rank,
                "count": count,
                "share": count / active[feature],
                "rate": count / finals[0]["occurrences"][token],
                "mean_activation": total / count,
            },
        )
        best = np.zeros(len(active), dtype=np.int64)
        best[feature[rank == 0]] = which[rank == 0]
        columns = {
            "id": keys(subject.sae, np.arange(len(active))),
            "top_token": texts.take(pa.array(best, mask=active == 0)),
        }
        yield graph_table("Feature", self.name, columns)


def _cut(state: Arrays, top: int) -> None:
    """Cut a final state, in place, to each feature's top tokens and its active tokens."""
    if "active" in state:
        return
    key, count, total = pairs.take(state)
    feature = key >> 32
    first, end = state["range"]
    active = np.zeros(int(end - first), dtype=np.int64)
    np.add.at(active, feature - first, count)
    # The keys ascend by token within a feature, so a stable sort leaves ties in order.
    by = np.argsort((feature << 32) - count, kind="stable")
    by = by[ranks(feature) < top]
    state.update(active=active, key=key[by], count=count[by], total=total[by])


if TYPE_CHECKING:
    _: CodeReduction = TokenCounts()
