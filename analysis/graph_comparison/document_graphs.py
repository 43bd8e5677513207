"""Graphs of a subset of documents, and graphs drawn from the bipartite null."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analysis.graph_comparison.linked import Linked
from analysis.statistics.bipartite_null import swapped
from ingest.codes.topk_membership import Membership, edges

__all__ = ["null_linked", "part"]


def part(membership: Membership, documents: NDArray[np.int64]) -> Membership:
    """Return the rows of some documents; ``active`` remains that of all tokens.

    Parameters
    ----------
    membership
        The most active features of each token.
    documents
        Numbers of the documents.
    """
    rows = np.flatnonzero(np.isin(membership.document, documents))
    size = np.diff(membership.indptr)[rows]
    indptr = np.concatenate([[0], np.cumsum(size)])
    entry = np.arange(indptr[-1]) + np.repeat(membership.indptr[rows] - indptr[:-1], size)
    return replace(
        membership,
        indptr=indptr,
        features=membership.features[entry],
        document=membership.document[rows],
    )


def null_linked(membership: Membership, seed: int, *, min_count: int) -> Linked:
    """Draw a graph from the bipartite null; it has no weights.

    Parameters
    ----------
    membership
        The most active features of each token.
    seed
        Seed of the draw.
    min_count
        Smallest count of an edge.
    """
    drawn = swapped(membership, seed, within_documents=False)
    return Linked(membership.d_sae, edges(drawn, min_count=min_count)[0])
