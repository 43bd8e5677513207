"""Forecast of graph matching, measured on one share of anchors of one repeat."""

import numpy as np

from analysis.graph.coactivation_graph import CoactivationGraph, graph_of_membership
from analysis.graph_matching.evaluate import compare_with_faq, evaluate
from analysis.graph_matching.settings import GraphMatchingSettings
from analysis.graph_matching.subject import (
    MatchedGraphs,
    Sets,
    activation_scores,
    shared_min_count,
    split,
)
from atlas.studies.forecast import Cost, timed
from atlas.studies.study import Task, TaskContext
from ingest.codes.topk_membership import open_membership
from ingest.match.settings import MatchSettings
from ingest.match.study import MatchStudy, match_name
from ingest.text.corpus import Corpus

__all__ = ["matching_cost"]

#: Denominators of the shares of the documents on which correlations are measured.
_SAMPLES = (48, 24)

#: Share of the nulls of a match that the truth needs; a match consists of little else.
_NULLS = 2 / 3

#: Methods with walks or rounds in ``choose``, for each share of anchors of an evaluation.
_CHOICES = 6 / 2


def matching_cost(
    pair: tuple[str, str], settings: GraphMatchingSettings, at: TaskContext
) -> Cost | None:
    """Return the cost of one pair of SAEs; None if a graph has fewer than two live features.

    The true counterparts are not known before the work. Pairs of live features, drawn at random,
    replace them: the cost depends on their number, not on whether they are right.

    Parameters
    ----------
    pair
        The SAEs.
    settings
        Settings of the matching.
    at
        The atlas.
    """
    s, sets = settings, split(_documents(at), seed=settings.seed)
    graphs: list[CoactivationGraph] = []
    seconds = timed(lambda: graphs.extend(_graphs(at, pair, s, sets)))
    a, b = graphs
    if min(len(a.live), len(b.live)) < 2:
        return None
    matched = MatchStudy(MatchSettings(draws=s.draws, seed=s.seed))
    task = Task(match_name(*pair), pair, matched.settings)
    share = _NULLS * len(sets.truth) / _documents(at)
    seconds += matched.forecast(task, at).seconds * share
    subject = _subject(at, pair, a, b, seed=s.seed)
    features = subject.truth[:, 0]
    few, more = (max(1, _documents(at) // share) for share in _SAMPLES)

    def correlate(documents: int) -> object:
        return activation_scores(at.folder, *pair, features=features, documents=sets.a[:documents])

    correlate(1)  # the first call compiles loops
    first, second = timed(lambda: correlate(few)), timed(lambda: correlate(more))
    slope = max(0.0, second - first) / max(more - few, 1)
    seconds += second + slope * max(0, len(sets.a) + len(sets.b) - more)
    known, rng = s.shares[len(s.shares) // 2 :][:1], np.random.default_rng(s.seed)
    without = timed(lambda: list(evaluate(subject, s, shares=())))
    walks = timed(lambda: list(evaluate(subject, s, shares=known))) - without if known else 0.0
    faq = timed(lambda: compare_with_faq(subject, s, share=known[0] if known else 0.0, rng=rng))
    evaluating = without + max(walks, 0.0) * len(s.shares) + faq * (1 + len(s.shares))
    total = s.repeats * (seconds + evaluating)
    if s.chosen_on is not None:
        total += seconds + _CHOICES * (without + max(walks, 0.0))
    scores = 4 * len(features) * max(len(a.live), len(b.live))
    return Cost(total, bytes=a.pairs.nbytes + b.pairs.nbytes + 4 * scores)


def _documents(at: TaskContext) -> int:
    return Corpus.open(at.folder.corpus_file).info.documents


def _graphs(
    at: TaskContext, pair: tuple[str, str], s: GraphMatchingSettings, sets: Sets
) -> list[CoactivationGraph]:
    """Return the graphs of both SAEs, each over its documents."""
    min_count = shared_min_count(at.folder, *pair, at_least=s.min_count)
    return [
        graph_of_membership(
            open_membership(at.folder, sae, documents=documents), min_count=min_count
        ).weighted("count")
        for sae, documents in zip(pair, (sets.a, sets.b), strict=True)
    ]


def _subject(
    at: TaskContext, pair: tuple[str, str], a: CoactivationGraph, b: CoactivationGraph, *, seed: int
) -> MatchedGraphs:
    """Return both graphs with random counterparts: as many as the stored match has one to one."""
    most = min(len(a.live), len(b.live))
    stored = at.sound.parts.get(f"match/{match_name(*pair)}")
    number = most // 2
    if stored is not None:
        number = int(np.count_nonzero(stored.table("MATCHES")["one_to_one"].to_numpy()))
    number = min(max(number, 2), most)
    rng = np.random.default_rng(seed)
    ends = [rng.choice(g.live, number, replace=False) for g in (a, b)]
    return MatchedGraphs(a, b, np.column_stack([np.sort(ends[0]), ends[1]]))
