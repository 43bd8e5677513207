"""Growth of a graph with the number of tokens it is counted over."""

from dataclasses import dataclass

import numpy as np

from ingest.codes.topk_membership import Membership, edges

__all__ = ["PARTS", "Grown", "growth"]

#: Shares of the corpus, from its start.
PARTS = (16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Grown:
    """A graph over the first tokens of the corpus.

    Parameters
    ----------
    tokens
        Number of tokens.
    edges, isolates
        Number of edges, and of features without an edge.
    average_clustering
        Average clustering, with 0 for features of degree 0 and 1.
    """

    tokens: int
    edges: int
    isolates: int
    average_clustering: float


def growth(membership: Membership, *, min_count: int = 1) -> list[Grown]:
    """Compute the graph at 1/16, 1/8, 1/4, 1/2 and all of the tokens; omit shares without tokens."""
    import igraph

    found = []
    for tokens in sorted({len(membership) // part for part in PARTS} - {0}):
        pairs, _ = edges(membership, tokens, min_count=min_count)
        graph = igraph.Graph(n=membership.d_sae, edges=pairs)
        found.append(
            Grown(
                tokens=tokens,
                edges=len(pairs),
                isolates=int(np.sum(np.array(graph.degree()) == 0)),
                average_clustering=graph.transitivity_avglocal_undirected(mode="zero"),
            )
        )
    return found
