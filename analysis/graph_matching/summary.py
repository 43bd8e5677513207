"""The conclusions of a report, computed from its tables, with limitations first."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["conclusions"]

# With fewer queries, the conclusions include a warning.
_FEW = 50


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
        sentences.append(f"{left:,} true pairs, over all repeats, are excluded, because one of their "
                    "features is never active on the documents of its graph.")  # fmt: skip
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
        sentences.append("Decoder vectors are not compared: the SAEs write into different spaces, or their "
                    "weights are not available.")  # fmt: skip
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
