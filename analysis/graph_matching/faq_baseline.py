"""A comparison of seeded matching with SciPy's FAQ on small subgraphs."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import quadratic_assignment

from analysis.graph.coactivation_graph import CoactivationGraph
from analysis.graph_matching.node_vectors import embedded, propagated
from analysis.graph_matching.ranks import rank
from analysis.graph_matching.seeded_matching import TOLERANCE, Nodes, match
from analysis.graph_matching.settings import GraphMatchingSettings
from analysis.graph_matching.subject import MatchedGraphs

__all__ = ["NODES", "FaqComparison", "compare_with_faq", "faq"]

Ints: TypeAlias = NDArray[np.int64]

#: Nodes of the subgraphs; the time of FAQ is cubic in their number.
NODES = 200


@dataclass(frozen=True)
class FaqComparison:
    """The results of both methods on subgraphs in which every node has a counterpart.

    Parameters
    ----------
    nodes, anchors
        Number of nodes of each subgraph, and of known ones.
    faq, matching, chance
        Recall@1 of the unknown nodes, for each method and for random ranks.
    """

    nodes: int
    anchors: int
    faq: float
    matching: float
    chance: float


def compare_with_faq(
    subject: MatchedGraphs,
    settings: GraphMatchingSettings,
    *,
    share: float,
    rng: np.random.Generator,
    nodes: int = NODES,
) -> FaqComparison:
    """Sample nodes that have a counterpart, and match their subgraphs by both methods.

    Parameters
    ----------
    subject
        The graphs and the truth.
    settings
        Settings of the matching.
    share
        Share of nodes that are known; at least one is unknown.
    rng
        Random generator.
    nodes
        Largest number of nodes.
    """
    nodes = min(nodes, len(subject.truth))
    drawn = subject.truth[rng.choice(len(subject.truth), size=nodes, replace=False)]
    a, b = (np.sort(side) for side in drawn.T)
    truth = np.column_stack([np.searchsorted(a, drawn[:, 0]), np.searchsorted(b, drawn[:, 1])])
    graphs = subject.a.among(a), subject.b.among(b)
    known = min(nodes - 1, max(1, round(share * nodes))) if share else 0
    anchors, rest = truth[:known], truth[known:]
    partner = faq(*graphs, anchors=anchors)
    vectors = embedded(
        *(propagated(g, depth=settings.depth, standard=settings.standard) for g in graphs)
    )
    free = [np.setdiff1d(np.arange(nodes), side) for side in anchors.T]
    one, two = (
        Nodes(g, f, k, v[f])
        for g, f, k, v in zip(graphs, free, anchors.T, vectors, strict=True)
    )  # fmt: skip
    scores = match(one, two, settings)[np.searchsorted(free[0], rest[:, 0])]
    ranks = rank(scores, np.searchsorted(free[1], rest[:, 1]), tolerance=TOLERANCE)
    return FaqComparison(
        nodes, known,
        faq=float(np.mean(partner[rest[:, 0]] == rest[:, 1])),
        matching=float(ranks.scores[:, 0].mean()),
        chance=1 / len(rest),
    )  # fmt: skip


def faq(a: CoactivationGraph, b: CoactivationGraph, *, anchors: Ints) -> Ints:
    """Match two graphs with equally many nodes by SciPy's FAQ; return the node of B per node of A.

    Edge weights are log(1 + weight), since weights differ by factors of a thousand.
    """
    one, two = (np.log1p(g.matrix.toarray()) for g in (a, b))
    assignment = quadratic_assignment(
        one, two, method="faq", options={"maximize": True, "partial_match": anchors}
    )
    return np.asarray(assignment.col_ind, dtype=np.int64)
