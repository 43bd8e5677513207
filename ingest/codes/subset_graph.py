"""The graph of an SAE over some documents of its text, with the weights the atlas would give it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.folder import Folder
from ingest.codes.store import read_shard
from ingest.codes.topk_membership import of_documents, rule_of
from ingest.reduce import sorted_pair_counts
from ingest.reduce.coactivation import Coactivation
from ingest.reduce.protocol import Sizes

__all__ = ["SubsetGraph", "weighted_edges"]


@dataclass(frozen=True, eq=False)
class SubsetGraph:
    """The edges of a graph, in the order of both features.

    Parameters
    ----------
    pairs
        int64, (edges, 2). Lower feature first.
    count
        int64, (edges,). Tokens among whose most active features both are.
    weight
        float64, (edges,). Mean over these tokens of the cosine of both activation columns
        within the token's block.
    """

    pairs: NDArray[np.int64]
    count: NDArray[np.int64]
    weight: NDArray[np.float64]


def weighted_edges(
    folder: Folder, sae: str, *, d_sae: int, documents: NDArray[np.int64] | None = None
) -> SubsetGraph:
    """Make the graph of some documents from kept codes, as the atlas makes that of all.

    Parameters
    ----------
    folder
        The atlas; the codes of the SAE are kept in it.
    sae
        The SAE's name.
    d_sae
        Its number of features.
    documents
        Numbers of the documents; all if None.
    """
    rule = rule_of(folder, sae)
    counting = Coactivation(k=rule.k, min_count=rule.min_count)
    # The first of two looks counts pairs and sums their cosines, which is all of it here.
    state = counting.start(0, [], sizes=_sizes(d_sae), looks=2)
    for shard in sorted(folder.codes(sae).glob("*.arrow")):
        for block in read_shard(shard):
            counting.update(state, block if documents is None else of_documents(block, documents))
    key, count, total = sorted_pair_counts.take(state)
    kept = count >= rule.min_count
    key, count, total = key[kept], count[kept], total[kept]
    pairs = np.stack([key >> 32, key & 0xFFFFFFFF], axis=1)
    return SubsetGraph(pairs, count, np.minimum(total / count, 1.0))


def _sizes(d_sae: int) -> Sizes:
    """Return what a look asks for: the number of features; it plans nothing here."""
    return Sizes(1, d_sae, tokens=0, l0=1.0, vocabulary=1, codes_kept=True)
