"""Evaluation of all methods by the rank of the true counterpart, and a comparison with SciPy's FAQ."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import quadratic_assignment
from scipy.sparse import csr_array

from analysis.graph.coactivation_graph import CoactivationGraph
from analysis.graph_matching.node_vectors import embedded, propagated
from analysis.graph_matching.ranks import Ranks, first, rank
from analysis.graph_matching.seeded_matching import TOLERANCE, Nodes, match
from analysis.graph_matching.settings import GraphMatchingSettings
from analysis.graph_matching.subject import MatchedGraphs

__all__ = [
    "METHODS",
    "NODES",
    "FaqComparison",
    "Outcome",
    "Scored",
    "anchored",
    "compare_with_faq",
    "evaluate",
    "faq",
    "mispaired",
    "sample_anchors",
    "without_anchors",
]

Ints: TypeAlias = NDArray[np.int64]

#: Nodes of the subgraphs for FAQ; the time of FAQ is cubic in their number.
NODES = 200


METHODS = {
    "chance": "candidates in a random order",
    "frequency": "nearest log frequency",
    "structure, local": "cosine of vectors of node statistics",
    "structure, local + frequency": "the same with log frequency",
    "structure, propagated": "cosine of node statistics and their means over neighbours",
    "structure, propagated + frequency": "the same with log frequency",
    "structure, matched": "pairs found by vectors taken in as anchors, round by round; none is known",
    "anchors, walks alone": "walks to the known pairs, once",
    "anchors, matched": "walks to known pairs and to pairs found, with vectors, round by round",
    "anchors paired at random": "walks to the known nodes, each paired with the counterpart of another",
    "activation correlation": "Pearson correlation on the documents of both graphs",
    "decoder cosine": "cosine of decoder vectors",
}
"""All methods, with the score that each ranks candidates by."""

# Size of the groups of anchors with similar frequency within which partners are permuted.
_NEAR = 20

# The first ranks of these methods are random, so agreement with them has no meaning.
_RANDOM_FIRST = ("chance", "anchors paired at random")


class Scored(NamedTuple):
    """Scores of a method, (queries, candidates), and the largest difference that counts as a tie."""

    method: str
    scores: NDArray[np.floating]
    tolerance: float


def without_anchors(subject: MatchedGraphs, settings: GraphMatchingSettings) -> Iterator[Scored]:
    """Yield the scores of methods without anchors, for the nodes of the truth and live nodes of B."""
    a, b, queries = subject.a, subject.b, subject.truth[:, 0]
    shape = len(queries), len(b.live)
    yield Scored("chance", np.zeros(shape, np.float32), 0.0)
    yield Scored("frequency", -np.abs(_log_rate(a)[queries, None] - _log_rate(b)[b.live]), 1e-9)
    for name, depth in (("local", 0), ("propagated", settings.depth)):
        for frequency in (False, True):
            one, two = _vectors(subject, settings, depth=depth, frequency=frequency)
            method = f"structure, {name}{' + frequency' if frequency else ''}"
            yield Scored(method, one[np.searchsorted(a.live, queries)] @ two.T, 1e-9)
    none = np.zeros((0, 2), dtype=np.int64)
    yield Scored("structure, matched", anchored(subject, settings, anchors=none), TOLERANCE)
    for name, scores in subject.others.items():
        yield Scored(name, scores[:, b.live], 1e-9)


def anchored(
    subject: MatchedGraphs, settings: GraphMatchingSettings, *, anchors: Ints, alone: bool = False
) -> NDArray[np.float32]:
    """Score the other nodes of the truth against the other live nodes of B, with anchors.

    Parameters
    ----------
    subject
        The graphs and the truth.
    settings
        Settings of the matching.
    anchors
        int64, (anchors, 2). The known pairs.
    alone
        Whether to use only walks to the known pairs, without vectors and rounds.
    """
    a, b = subject.a, subject.b
    free = np.setdiff1d(a.live, anchors[:, 0]), np.setdiff1d(b.live, anchors[:, 1])
    vectors: tuple[NDArray[np.float64] | None, NDArray[np.float64] | None] = (None, None)
    if not alone:
        one, two = _vectors(subject, settings, depth=settings.depth, frequency=False)
        vectors = one[np.searchsorted(a.live, free[0])], two[np.searchsorted(b.live, free[1])]
    scores = match(
        Nodes(a, free[0], anchors[:, 0], vectors[0]),
        Nodes(b, free[1], anchors[:, 1], vectors[1]),
        settings,
        rounds=0 if alone else None,
    )
    queries = subject.truth[~np.isin(subject.truth[:, 0], anchors[:, 0]), 0]
    of_queries: NDArray[np.float32] = scores[np.searchsorted(free[0], queries)]
    return of_queries


def mispaired(
    subject: MatchedGraphs,
    settings: GraphMatchingSettings,
    *,
    anchors: Ints,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Score by walks alone, with each anchor paired with the partner of another anchor.

    Partners are permuted among anchors of similar frequency. The known nodes and the candidates
    are the same as in ``anchored``. At least two anchors are needed.
    """
    partners = anchors[:, 1]
    wrong = anchors.copy()
    order = np.argsort(subject.b.active[partners], kind="stable")
    for near in np.array_split(order, max(1, len(order) // _NEAR)):
        mixed = rng.permutation(near)
        wrong[mixed, 1] = partners[np.roll(mixed, 1)]
    return anchored(subject, settings, anchors=wrong, alone=True)


def _vectors(
    subject: MatchedGraphs, settings: GraphMatchingSettings, *, depth: int, frequency: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the vectors of the live nodes of both graphs."""
    one, two = (
        propagated(g, depth=depth, standard=settings.standard, frequency=frequency)[g.live]
        for g in (subject.a, subject.b)
    )
    return embedded(one, two)


def _log_rate(graph: CoactivationGraph) -> NDArray[np.float64]:
    rate: NDArray[np.float64] = np.log(np.maximum(graph.active, 1) / max(graph.tokens, 1))
    return rate


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of one method in one repeat, with a share of the truth known.

    Parameters
    ----------
    method, share, repeat
        The method, the share of the truth that is known, and the repeat.
    anchors
        Number of known pairs.
    query
        int64, (queries,). The node of A.
    active
        int64, (queries,). Number of tokens on which the node is active.
    ranks
        Ranks of the true counterparts.
    first_ranks
        float64, (queries, candidates). Shares of the first rank. None if they were not requested,
        or if agreement with the method has no meaning.
    true
        int64, (queries,). The column of the true counterpart.
    """

    method: str
    share: float
    repeat: int
    anchors: int
    query: Ints
    active: Ints
    ranks: Ranks
    true: Ints
    first_ranks: csr_array | None = field(default=None, repr=False)


def sample_anchors(truth: Ints, share: float, *, seed: int, repeat: int = 0) -> NDArray[np.bool_]:
    """Draw the known pairs of the truth; a larger share includes those of a smaller one."""
    known = np.zeros(len(truth), dtype=np.bool_)
    number = min(len(truth) - 1, max(1, round(share * len(truth)))) if share else 0
    order = np.random.default_rng([seed, repeat, 2]).permutation(len(truth))
    known[order[:number]] = True
    return known


def evaluate(
    subject: MatchedGraphs,
    settings: GraphMatchingSettings,
    *,
    shares: Sequence[float],
    first_ranks_at: float | None = None,
    seed: int = 0,
    repeat: int = 0,
) -> Iterator[Outcome]:
    """Rank the true counterparts by every method, without and with anchors.

    All methods have the same queries and candidates. Anchors are excluded from both, even for
    methods that do not use them.

    Parameters
    ----------
    subject
        Graphs and truth.
    settings
        Settings of the methods.
    shares
        Shares of the truth that are known; 0 is always included.
    first_ranks_at
        The share at which first ranks are stored, for the agreement of methods.
    seed, repeat
        Seed of the anchors, and the number of the repeat.
    """
    knowns = {
        share: sample_anchors(subject.truth, share, seed=seed, repeat=repeat)
        for share in dict.fromkeys([0.0, *shares])
    }
    live = subject.b.live
    for scored in without_anchors(subject, settings):
        for share, known in knowns.items():
            columns = ~np.isin(live, subject.truth[known, 1])
            part = Scored(scored.method, scored.scores[~known][:, columns], scored.tolerance)
            yield _outcome(
                subject, part, known, share=share, repeat=repeat, store=share == first_ranks_at
            )
    rng = np.random.default_rng([seed, repeat, 3])
    for share, known in knowns.items():
        if not share:
            continue
        for part in _with_anchors(subject, settings, subject.truth[known], rng):
            yield _outcome(
                subject, part, known, share=share, repeat=repeat, store=share == first_ranks_at
            )


def _with_anchors(
    subject: MatchedGraphs, settings: GraphMatchingSettings, anchors: Ints, rng: np.random.Generator
) -> Iterator[Scored]:
    yield Scored(
        "anchors, walks alone", anchored(subject, settings, anchors=anchors, alone=True), TOLERANCE
    )
    yield Scored("anchors, matched", anchored(subject, settings, anchors=anchors), TOLERANCE)
    if len(anchors) > 1:  # a single known pair cannot be paired wrongly
        scores = mispaired(subject, settings, anchors=anchors, rng=rng)
        yield Scored("anchors paired at random", scores, TOLERANCE)


def _outcome(
    subject: MatchedGraphs,
    scored: Scored,
    known: NDArray[np.bool_],
    *,
    share: float,
    repeat: int,
    store: bool,
) -> Outcome:
    candidates = np.setdiff1d(subject.b.live, subject.truth[known, 1])
    store = store and scored.method not in _RANDOM_FIRST
    query, partner = subject.truth[~known].T
    true = np.searchsorted(candidates, partner)
    return Outcome(
        scored.method,
        share,
        repeat,
        int(known.sum()),
        query,
        subject.a.active[query],
        rank(scored.scores, true, tolerance=scored.tolerance),
        true,
        csr_array(first(scored.scores, tolerance=scored.tolerance)) if store else None,
    )


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
        Nodes(g, f, k, v[f]) for g, f, k, v in zip(graphs, free, anchors.T, vectors, strict=True)
    )
    scores = match(one, two, settings)[np.searchsorted(free[0], rest[:, 0])]
    ranks = rank(scores, np.searchsorted(free[1], rest[:, 1]), tolerance=TOLERANCE)
    return FaqComparison(
        nodes,
        known,
        faq=float(np.mean(partner[rest[:, 0]] == rest[:, 1])),
        matching=float(ranks.scores[:, 0].mean()),
        chance=1 / len(rest),
    )


def faq(a: CoactivationGraph, b: CoactivationGraph, *, anchors: Ints) -> Ints:
    """Match two graphs with equally many nodes by SciPy's FAQ; return the node of B per node of A.

    Edge weights are log(1 + weight), since weights differ by factors of a thousand.
    """
    one, two = (np.log1p(g.matrix.toarray()) for g in (a, b))
    assignment = quadratic_assignment(
        one, two, method="faq", options={"maximize": True, "partial_match": anchors}
    )
    return np.asarray(assignment.col_ind, dtype=np.int64)
