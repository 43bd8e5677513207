"""The co-activation graph of an SAE on a subset of documents, weighted as in the atlas."""

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
    """The edges of a graph, sorted by both features.

    Parameters
    ----------
    pairs
        int64, (edges, 2). Lower feature first.
    count
        int64, (edges,). Number of tokens on which both features are among the k most active.
    weight
        float64, (edges,). Mean over these tokens of the cosine similarity of the two activation
        columns within the block of the token.
    """

    pairs: NDArray[np.int64]
    count: NDArray[np.int64]
    weight: NDArray[np.float64]


def weighted_edges(
    folder: Folder, sae: str, *, d_sae: int, documents: NDArray[np.int64] | None = None
) -> SubsetGraph:
    """Compute the graph of some documents from stored codes, by the rule of the atlas' own graph.

    Parameters
    ----------
    folder
        The atlas; it must store the codes of the SAE.
    sae
        The SAE's name.
    d_sae
        The number of its features.
    documents
        Numbers of the documents; all if None.
    """
    rule = rule_of(folder, sae)
    counting = Coactivation(k=rule.k, min_count=rule.min_count)
    # The first of two passes counts pairs and sums their cosines; this graph needs no second pass.
    state = counting.start(0, [], sizes=_sizes(d_sae), passes=2)
    for shard in sorted(folder.codes(sae).glob("*.arrow")):
        for block in read_shard(shard):
            counting.update(state, block if documents is None else of_documents(block, documents))
    key, count, total = sorted_pair_counts.take(state)
    frequent = count >= rule.min_count
    key, count, total = key[frequent], count[frequent], total[frequent]
    pairs = np.stack([key >> 32, key & 0xFFFFFFFF], axis=1)
    return SubsetGraph(pairs, count, np.minimum(total / count, 1.0))


def _sizes(d_sae: int) -> Sizes:
    """Return the sizes for one pass, which reads only the number of features."""
    return Sizes(1, d_sae, tokens=0, l0=1.0, vocabulary=1, codes_stored=True)
