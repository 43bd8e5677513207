"""The evaluation of counterparts of two SAEs over repeats, with tables and conclusions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeAlias

import numpy as np

from analysis.graph_matching.evaluate import METHODS, Outcome, anchored, evaluate, sample_anchors
from analysis.graph_matching.faq_baseline import compare_with_faq
from analysis.graph_matching.node_vectors import embedded, propagated
from analysis.graph_matching.ranks import rank
from analysis.graph_matching.seeded_matching import TOLERANCE
from analysis.graph_matching.settings import GraphMatchingSettings, vector_grid, walk_grid
from analysis.graph_matching.subject import MatchedGraphs, shared_min_count, subject_of
from analysis.graph_matching.summary import conclusions
from analysis.graph_matching.tables import (
    agreement,
    by_anchors,
    by_frequency,
    by_method,
    mean_agreement,
)
from atlas.errors import BadInput
from atlas.folder import Folder
from atlas.progress import SILENT, Progress, Stage

__all__ = ["check_chosen_on", "choose", "counterparts", "report"]

Row: TypeAlias = dict[str, Any]

# The share of known counterparts for the table of all methods and for choosing settings.
_ONE_TABLE = 0.1


def counterparts(
    folder: Folder,
    sae_a: str,
    sae_b: str,
    *,
    settings: GraphMatchingSettings = GraphMatchingSettings(),  # noqa: B008 - frozen
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Find the counterparts of A's features in B by every method, without storing results.

    Parameters
    ----------
    folder
        The atlas, which stores the codes of both SAEs.
    sae_a, sae_b
        The SAEs.
    settings
        Settings of the matching. With ``chosen_on``, the grid settings with the best mean
        reciprocal rank on that pair are used.
    progress
        Progress reporter.

    Returns
    -------
    dict
        ``methods``, ``by_anchors``, ``by_frequency``, ``agreement`` and ``faq`` are tables.
        ``sentences`` are the conclusions. ``settings`` are the settings of the methods, and
        ``chosen`` is the result of their choice.

    Raises
    ------
    BadInput
        If settings are to be chosen on the same pair, or for the reasons of ``subject_of``.
    """
    s = settings
    check_chosen_on(sae_a, sae_b, s)
    tried: list[Row] = []
    used = s
    if s.chosen_on is not None:
        with progress.stage(f"Choosing settings on {' and '.join(s.pair)}"):
            other = subject_of(
                folder, *s.pair, seed=s.seed, draws=s.draws, min_count=s.min_count, others=False
            )
            used, tried = choose(other, s)
    # A generator, so that only one repeat is in memory at a time.
    subjects = (
        subject_of(
            folder, sae_a, sae_b,
            seed=s.seed, repeat=repeat, draws=s.draws, min_count=s.min_count,
            progress=progress if not repeat else SILENT,
        )
        for repeat in range(s.repeats)
    )  # fmt: skip
    with progress.stage("Matching graphs", total=s.repeats, unit="repeats") as stage:
        found = report(subjects, used, stage=stage)
    about = {
        "a": sae_a, "b": sae_b, "seed": s.seed, "draws": s.draws,
        "min_count": shared_min_count(folder, sae_a, sae_b, at_least=s.min_count),
        "settings": used.method,
        "chosen": {"on": list(s.pair), "tried": tried} if s.chosen_on is not None else None,
    }  # fmt: skip
    return about | found | {"sentences": conclusions(about | found)}


def check_chosen_on(sae_a: str, sae_b: str, settings: GraphMatchingSettings) -> None:
    """Check that settings are chosen on a different pair than the one they are used on.

    Raises
    ------
    BadInput
        If both pairs are the same.
    """
    if {*settings.pair} == {sae_a, sae_b}:
        raise BadInput(
            f"Settings must be chosen on another pair than {sae_a} and {sae_b}, on which they are used. "
            "Select another pair with --chosen-on, or omit it."
        )


def report(
    subjects: Iterable[MatchedGraphs],
    settings: GraphMatchingSettings,
    *,
    stage: Stage | None = None,
) -> dict[str, Any]:
    """Evaluate every method on the repeats, and compute the tables.

    Parameters
    ----------
    subjects
        Graphs and truth of each repeat.
    settings
        Settings of the methods, the shares of known counterparts, and the seed.
    stage
        Progress stage, which advances after each repeat.
    """
    shares, seed = settings.shares, settings.seed
    table = min(shares, key=lambda share: abs(share - _ONE_TABLE), default=None)
    truth: list[int] = []
    left_out: list[int] = []
    graphs: list[Row] = []
    agreements: list[list[Row]] = []
    outcomes: list[Outcome] = []
    against_faq: list[Row] = []
    for repeat, subject in enumerate(subjects):
        truth.append(len(subject.truth))
        left_out.append(subject.left_out)
        graphs += _graph_rows(subject, repeat)
        here = list(
            evaluate(
                subject, settings, shares=shares, first_ranks_at=table, seed=seed, repeat=repeat
            )
        )
        agreements.append(agreement(here))
        outcomes += [replace(one, first_ranks=None) for one in here]
        rng = np.random.default_rng([seed, repeat, 4])
        against_faq += [
            {"share": share, "repeat": repeat}
            | asdict(compare_with_faq(subject, settings, share=share, rng=rng))
            for share in dict.fromkeys([0.0, *shares])
        ]
        if stage is not None:
            stage.advance()
    return {
        "repeats": len(truth),
        "truth": truth,
        "left_out": left_out,
        "graphs": graphs,
        "table_share": table,
        "meaning": METHODS,
        "methods": by_method(outcomes, seed=seed),
        "by_anchors": by_anchors(outcomes, seed=seed),
        "by_frequency": by_frequency(outcomes, seed=seed),
        "agreement": mean_agreement(agreements),
        "faq": _faq_rows(against_faq),
    }


def _graph_rows(subject: MatchedGraphs, repeat: int) -> list[Row]:
    return [
        {"repeat": repeat, "side": side, "tokens": g.tokens, "live": len(g.live),
         "edges": len(g.pairs), "isolates": int(np.sum(g.strength[g.live] == 0))}
        for side, g in (("a", subject.a), ("b", subject.b))
    ]  # fmt: skip


def choose(
    subject: MatchedGraphs, base: GraphMatchingSettings
) -> tuple[GraphMatchingSettings, list[Row]]:
    """Return the grid settings with the highest mean reciprocal rank, and rows for all settings.

    Settings of vectors are chosen first, without anchors. Those of walks are chosen next, with a
    tenth of the truth known.
    """
    tried: list[Row] = []
    true = np.searchsorted(subject.b.live, subject.truth[:, 1])
    rows = np.searchsorted(subject.a.live, subject.truth[:, 0])
    best, most = base, -1.0
    for settings in vector_grid(base):
        one, two = embedded(*(
            propagated(g, depth=settings.depth, standard=settings.standard)[g.live]
            for g in (subject.a, subject.b)
        ))  # fmt: skip
        mrr = float(rank(one[rows] @ two.T, true).scores[:, -1].mean())
        tried.append(
            {"what": "vectors", "standard": settings.standard, "depth": settings.depth, "mrr": mrr}
        )
        if mrr > most:
            best, most = settings, mrr
    known = sample_anchors(subject.truth, _ONE_TABLE, seed=base.seed)
    candidates = np.setdiff1d(subject.b.live, subject.truth[known, 1])
    true, base, most = np.searchsorted(candidates, subject.truth[~known, 1]), best, -1.0
    for settings in walk_grid(base):
        scores = anchored(subject, settings, anchors=subject.truth[known])
        mrr = float(rank(scores, true, tolerance=TOLERANCE).scores[:, -1].mean())
        tried.append(
            {"what": "walks", "walks": settings.walks, "prior": settings.prior, "mrr": mrr}
        )
        if mrr > most:
            best, most = settings, mrr
    return best, tried


def _faq_rows(against_faq: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the means and ranges over repeats, with one row per share.

    A few repeats are not enough for an interval, so the rows have the minimum and the maximum.
    """
    rows = []
    for share in dict.fromkeys(one["share"] for one in against_faq):
        here = [one for one in against_faq if one["share"] == share]
        values = np.array([[one["faq"], one["matching"]] for one in here])
        low, high = values.min(axis=0), values.max(axis=0)
        several = len(here) > 1
        row: Row = {"share": share, "repeats": len(here)}
        row |= {
            name: float(np.mean([one[name] for one in here]))
            for name in ("nodes", "anchors", "chance")
        }
        for column, name in enumerate(("faq", "matching")):
            row |= {name: float(values[:, column].mean()),
                    f"{name} least": float(low[column]) if several else None,
                    f"{name} most": float(high[column]) if several else None}  # fmt: skip
        rows.append(row)
    return rows
