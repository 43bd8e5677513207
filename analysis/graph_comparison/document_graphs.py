"""Graphs drawn from the bipartite null."""

from analysis.graph_comparison.linked import Linked
from analysis.statistics.bipartite_null import swapped
from ingest.codes.topk_membership import Membership, edges

__all__ = ["null_linked"]


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
