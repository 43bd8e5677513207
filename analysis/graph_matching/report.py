"""The evaluation of counterparts of two SAEs over repeats, with tables and conclusions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeAlias

import numpy as np

from analysis.graph_matching.evaluate import (
    METHODS,
    Outcome,
    anchored,
    compare_with_faq,
    evaluate,
    sample_anchors,
)
from analysis.graph_matching.node_vectors import embedded, propagated
from analysis.graph_matching.ranks import rank
from analysis.graph_matching.seeded_matching import TOLERANCE
from analysis.graph_matching.settings import GraphMatchingSettings, vector_grid, walk_grid
from analysis.graph_matching.subject import MatchedGraphs, shared_min_count, subject_of
from analysis.graph_matching.tables import (
    agreement,
    by_anchors,
    by_frequency,
    by_method,
    mean_agreement,
)
from atlas.disk.folder import Folder
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress, Stage

__all__ = ["check_chosen_on", "choose", "conclusions", "counterparts", "report"]

Row: TypeAlias = dict[str, Any]

# The share of known counterparts for the table of all methods and for choosing settings.
_ONE_TABLE = 0.1

# With fewer queries, the conclusions include a warning.
_FEW = 50


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
            folder,
            sae_a,
            sae_b,
            seed=s.seed,
            repeat=repeat,
            draws=s.draws,
            min_count=s.min_count,
            progress=progress if not repeat else SILENT,
        )
        for repeat in range(s.repeats)
    )
    with progress.stage("Matching graphs", total=s.repeats, unit="repeats") as stage:
        found = report(subjects, used, stage=stage)
    about = {
        "a": sae_a,
        "b": sae_b,
        "seed": s.seed,
        "draws": s.draws,
        "min_count": shared_min_count(folder, sae_a, sae_b, at_least=s.min_count),
        "settings": used.method,
        "chosen": {"on": list(s.pair), "tried": tried} if s.chosen_on is not None else None,
    }
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
            "Select another pair with `chosen_on`, or omit it."
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
        {
            "repeat": repeat,
            "side": side,
            "tokens": g.tokens,
            "live": len(g.live),
            "edges": len(g.pairs),
            "isolates": int(np.sum(g.strength[g.live] == 0)),
        }
        for side, g in (("a", subject.a), ("b", subject.b))
    ]


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
        one, two = embedded(
            *(
                propagated(g, depth=settings.depth, standard=settings.standard)[g.live]
                for g in (subject.a, subject.b)
            )
        )
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
            row |= {
                name: float(values[:, column].mean()),
                f"{name} least": float(low[column]) if several else None,
                f"{name} most": float(high[column]) if several else None,
            }
        rows.append(row)
    return rows


def conclusions(found: Mapping[str, Any]) -> list[str]:
    """Summarize a report in sentences.

    Parameters
    ----------
    found
        A report; see ``analysis.graph_matching.report``.
    """
    rows = {(row["method"], row["share"]): row for row in found["methods"]}
    return [
        *_truth(found),
        *_settings(found),
        *_structure(rows),
        *_bins(found["by_frequency"]),
        *_anchors(rows, found["by_anchors"]),
        *_null(rows),
        *_missing(rows),
    ]


def _truth(found: Mapping[str, Any]) -> list[str]:
    numbers, left = found["truth"], sum(found["left_out"])
    sentences = [
        f"The true pairs are {_from_to(numbers)} one-to-one matches of {found['a']} and {found['b']}, "
        "significant under both nulls on documents that neither graph uses. Matches are correlations of "
        "activations. So the row of activation correlation only shows how well they replicate."
    ]
    if min(numbers) < _FEW:
        sentences.append(f"With only {min(numbers)} queries, all numbers are imprecise.")
    if left:
        sentences.append(
            f"{left:,} true pairs, over all repeats, are excluded, because one of their "
            "features is never active on the documents of its graph."
        )
    return sentences


def _settings(found: Mapping[str, Any]) -> list[str]:
    how = ", ".join(f"{name} {value}" for name, value in found["settings"].items())
    if found["chosen"] is None:
        return [
            f"Settings were not chosen on another pair; they were passed or are defaults ({how})."
        ]
    return [
        f"Settings were chosen on {' and '.join(found['chosen']['on'])}, by mean reciprocal rank "
        f"over {len(found['chosen']['tried'])} settings tried ({how})."
    ]


def _structure(rows: Mapping[Any, Any]) -> list[str]:
    base, sentences = rows["frequency", 0.0], []
    for method in ("structure, local", "structure, propagated", "structure, matched"):
        row = rows[method, 0.0]
        beyond = row["recall@10 low"] > base["recall@10 high"]
        word = "more than" if beyond else "not clearly more than"
        sentences.append(
            f"{method}: recall@10 is {_with_interval(row, 'recall@10')}, {word} with frequency alone, "
            f"{_with_interval(base, 'recall@10')}. Chance is {rows['chance', 0.0]['recall@10']:.3f}."
        )
        if row["recall@1"] < 0.5:
            sentences.append(
                f"{method}: its first candidate is wrong for {1 - row['recall@1']:.1%} of the queries."
            )
    return sentences


def _bins(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    sentences = []
    for method in ("structure, propagated", "structure, matched"):
        all_bins = [row for row in rows if row["method"] == method]
        bad = [row for row in all_bins if row["low"] <= 0]
        if bad and len(bad) == len(all_bins):
            sentences.append(
                f"{method}: no clear gain over frequency in any of the frequency groups."
            )
        elif bad:
            bins = ", ".join(f"{row['active from']:,} to {row['to']:,}" for row in bad)
            sentences.append(
                f"{method}: no clear gain over frequency for features active on {bins} tokens."
            )
    return sentences


def _anchors(rows: Mapping[Any, Any], gains: Sequence[Mapping[str, Any]]) -> list[str]:
    sentences = []
    for gain in gains:
        share = gain["share"]
        row, without = rows["anchors, matched", share], rows["structure, matched", share]
        low, high = gain["recall@10 low"], gain["recall@10 high"]
        word = "more than" if low > 0 else "less than" if high < 0 else "not clearly more than"
        sentences.append(
            f"With {row['anchors']:.0f} counterparts known ({share:.0%}), recall@1 is {_with_interval(row, 'recall@1')} "
            f"and recall@10 {_with_interval(row, 'recall@10')}. That is {word} {without['recall@10']:.3f}, the recall@10 "
            f"with none known for the same queries; the difference is {_with_interval(gain, 'recall@10')}."
        )
    return sentences


def _null(rows: Mapping[Any, Any]) -> list[str]:
    sentences = []
    for (method, share), row in rows.items():
        if method != "anchors paired at random":
            continue
        base, chance = rows["frequency", share], rows["chance", share]["recall@10"]
        if row["recall@10 low"] > max(chance, base["recall@10"]):
            sentences.append(
                f"Control: with {share:.0%} as anchors, each paired wrongly, walks have a recall@10 of "
                f"{_with_interval(row, 'recall@10')}, more than frequency alone ({base['recall@10']:.3f}) and chance "
                f"({chance:.3f}). This much of their recall needs no correct pair."
            )
        else:
            sentences.append(
                f"Control: with {share:.0%} as anchors, each paired wrongly, walks have a recall@10 of "
                f"{_with_interval(row, 'recall@10')}, not clearly more than frequency alone "
                f"({base['recall@10']:.3f}) or chance ({chance:.3f})."
            )
    return sentences


def _missing(rows: Mapping[Any, Any]) -> list[str]:
    sentences = []
    if not any(method == "decoder cosine" for method, _ in rows):
        sentences.append(
            "Decoder vectors are not compared: the SAEs write into different spaces, or their "
            "weights are not available."
        )
    for (method, share), row in rows.items():
        if not share and method != "chance" and row["coverage"] < 1:
            sentences.append(
                f"{method} gives no ranking for {1 - row['coverage']:.1%} of the queries."
            )
    return sentences


def _with_interval(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:.3f} [{row[f'{name} low']:.3f}, {row[f'{name} high']:.3f}]"


def _from_to(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
