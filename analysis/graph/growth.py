"""How a graph grows with the tokens it is counted over: more of these, more edges."""

from dataclasses import dataclass

import numpy as np

from ingest.codes.topk_membership import Membership, edges

__all__ = ["PARTS", "Grown", "growth"]

#: The first tokens of the corpus, in shares of all.
PARTS = (16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Grown:
    """A graph over the first tokens of the corpus.

    Parameters
    ----------
    tokens
        How many.
    edges, isolates
        Edges, and features without one.
    average_clustering
        With features of degree 0 and 1 as 0.
    """

    tokens: int
    edges: int
    isolates: int
    average_clustering: float


def growth(membership: Membership, *, min_count: int = 1) -> list[Grown]:
    """Return the graph at 1/16, 1/8, 1/4, 1/2 and all of the tokens, as far as there is one in them."""
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
