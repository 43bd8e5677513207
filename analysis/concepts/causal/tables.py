"""Tables and sentences of the causal check."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.concepts.causal.measure import Effects, LaterProbe
from analysis.concepts.probing.splits import Interval, resampled_interval
from analysis.concepts.tables import table_schema
from analysis.statistics.permutation import permutation_p
from atlas.amounts import counted
from ingest.statistics.discoveries import q_values

__all__ = ["MEASURED", "SUMMARY", "add_q", "measured_rows", "summary_row", "verdict_of"]

Row = dict[str, Any]


MEASURED = table_schema(
    ("concept", "measured", "features"),
    ("k", "sets"),
    ("clean_auc", "clean_low", "auc", "fall", "fall_low", "fall_high", "separation_lost"),
)
SUMMARY = table_schema(
    ("concept", "most_affected"),
    ("k", "sets", "candidates", "direction_sets", "words_tokens", "text_tokens"),
    (
        "clean_auc",
        "fall",
        "fall_low",
        "fall_high",
        "random_fall",
        "p",
        "q",
        "excess",
        "excess_low",
        "excess_high",
        "direction_fall",
        "direction_p",
        "direction_excess",
        "direction_excess_low",
        "direction_excess_high",
        "others_fall",
        "others_excess",
        "others_active_share",
        "specificity",
        "specificity_low",
        "specificity_high",
        "most_affected_fall",
        "separation_lost",
        "random_separation_lost",
        "direction_separation_lost",
        "others_separation_lost",
        "size",
        "random_size",
        "active_share",
        "random_active_share",
        *(
            f"{name}_kl{end}"
            for of in ("words", "text")
            for name, end in (
                (of, ""),
                (f"random_{of}", ""),
                (f"direction_{of}", ""),
                (of, "_p"),
            )
        ),
    ),
)

LEVEL = 0.05
"""Highest p or q of an effect."""

FEW_CANDIDATES = 5
"""Candidates for each ablated feature below which random sets share many features with each other."""


def measured_rows(concept: str, effects: Effects, probes: Sequence[LaterProbe]) -> Iterator[Row]:
    """Yield three rows for each measured concept: of the best features, and means of the controls."""
    for number, probe in enumerate(probes):
        clean = resampled_interval(probe.auc, probe.words.splits.ratio)
        for name, sets in (
            ("best", np.array([0])),
            ("random", effects.random),
            ("directions", effects.directed),
        ):
            auc = effects.auc[number, sets].mean(axis=0)
            fall = resampled_interval(probe.auc - auc, probe.words.splits.ratio)
            yield {
                "concept": concept,
                "measured": probe.name,
                "features": name,
                "k": effects.k,
                "sets": len(effects.auc[number, sets]),
                "clean_auc": _number(clean.value),
                "clean_low": _number(clean.low),
                "auc": _number(float(np.nanmean(auc))) if np.isfinite(auc).any() else None,
                "separation_lost": _lost(probe, effects.gap[number, sets].mean(axis=0)),
                **_limits("fall", fall),
            }


def summary_row(concept: str, effects: Effects, probes: Sequence[LaterProbe]) -> Row:
    """Return the effect on the concept, compared with random features and with other concepts.

    Other concepts count if their unedited AUROC is above .5 with its interval; of the others nothing
    can be lost. Their number of splits is that of the concept, so differences are paired. The
    specificity is the excess over random features, minus the mean excess of the other concepts.
    """
    names = [probe.name for probe in probes]
    own = names.index(concept)
    probe = probes[own]
    ratio = probe.words.splits.ratio
    falls = np.stack([p.auc[None] - effects.auc[i] for i, p in enumerate(probes)])
    best, random, directed = (falls[own, sets] for sets in (0, effects.random, effects.directed))
    excess = falls[:, 0] - falls[:, effects.random].mean(axis=1)
    row: Row = {
        "concept": concept,
        "k": effects.k,
        "sets": len(effects.random),
        "candidates": effects.candidates,
        "direction_sets": len(effects.directed),
        "clean_auc": _mean(probe.auc),
        "random_fall": _mean(random.mean(axis=0)),
        "direction_fall": _mean(directed.mean(axis=0)),
        "separation_lost": _lost(probe, effects.gap[own, 0]),
        "random_separation_lost": _lost(probe, effects.gap[own, effects.random].mean(axis=0)),
        "direction_separation_lost": _lost(probe, effects.gap[own, effects.directed].mean(axis=0)),
        "size": _mean(effects.size[0]),
        "random_size": _mean(effects.size[effects.random]),
        "active_share": _mean(effects.active[0]),
        "random_active_share": _mean(effects.active[effects.random]),
        **_limits("fall", resampled_interval(best, ratio)),
        **_limits("excess", resampled_interval(excess[own], ratio)),
        **_limits("direction_excess", resampled_interval(best - directed.mean(axis=0), ratio)),
    }
    known = np.isfinite(best)
    if known.any():
        seen = float(best[known].mean())
        row["p"] = permutation_p(seen, random[:, known].mean(axis=1))
        row["direction_p"] = permutation_p(seen, directed[:, known].mean(axis=1))
    others = [i for i, p in enumerate(probes) if i != own and _above_chance(p)]
    if others:
        with np.errstate(invalid="ignore"):
            mean_others = np.nanmean(falls[others, 0], axis=0)
            others_excess = np.nanmean(excess[others], axis=0)
        each = {names[i]: _mean(falls[i, 0]) or 0.0 for i in others}
        most = max(each, key=lambda name: each[name])
        lost = [_lost(probes[i], effects.gap[i, 0]) for i in others]
        row |= {
            "others_fall": _mean(mean_others),
            "others_excess": _mean(others_excess),
            "others_active_share": _mean(effects.moved[others, 0]),
            "most_affected": most,
            "most_affected_fall": each[most],
            "others_separation_lost": float(np.mean([v for v in lost if v is not None])),
            **_limits("specificity", resampled_interval(excess[own] - others_excess, ratio)),
        }
    return row


def add_q(rows: Sequence[Row]) -> None:
    """Add to each row its Benjamini-Hochberg q over the concepts with its number of features."""
    for k in {row["k"] for row in rows}:
        own = [row for row in rows if row["k"] == k and row.get("p") is not None]
        for row, q in zip(own, q_values([row["p"] for row in own]), strict=True):
            row["q"] = q


def _above_chance(probe: LaterProbe) -> bool:
    return resampled_interval(probe.auc, probe.words.splits.ratio).low > 0.5


def _lost(probe: LaterProbe, gap: Any) -> float | None:
    """Return the share of the mean gap between the classes that an ablation removes."""
    both = np.isfinite(gap) & np.isfinite(probe.gap)
    clean = float(probe.gap[both].sum())
    return _number(1 - float(gap[both].sum()) / clean) if both.any() and clean > 0 else None


def _mean(values: Any) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _limits(name: str, of: Interval) -> Row:
    return {
        name: _number(of.value),
        f"{name}_low": _number(of.low),
        f"{name}_high": _number(of.high),
    }


def verdict_of(
    sae: str,
    site: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    measured: Sequence[Mapping[str, Any]],
    same: bool,
) -> list[str]:
    """Return sentences for each concept, about its largest number of features.

    Parameters
    ----------
    sae, site
        The SAE, and the site where the effect is measured.
    rows, measured
        Rows of the tables ``summary`` and ``measured``.
    same
        Whether the SAE itself reads that site.
    """
    found = []
    chance = {
        row["concept"]
        for row in measured
        if row["measured"] == row["concept"] and not (row["clean_low"] or 0.0) > 0.5
    }
    largest = {row["concept"]: row for row in sorted(rows, key=lambda row: row["k"])}
    for row in largest.values():
        if row["fall"] is None:
            continue
        if row["concept"] in chance:
            found.append(
                f"{sae}, {row['concept']}: the held-out AUROC at {site} is {row['clean_auc']:.3f} and its interval "
                "does not exclude .5, so nothing can be lost there."
            )
            continue
        found += _of_concept(sae, site, row)
    if found and same:
        found.append(
            f"{sae} reads the site where the effect is measured, so the effect shows what its decoder vectors "
            "carry, not what later blocks compute from them."
        )
    return found


def _of_concept(sae: str, site: str, row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sentences of a concept, the conclusion first."""
    units, as_many = (
        ("the best feature", "a random feature")
        if row["k"] == 1
        else (f"the {row['k']} best features", f"{row['k']} random features")
    )
    yield f"{sae}, {row['concept']}: {_conclusion(row, units)}."
    yield (
        f"The held-out AUROC at {site} is {row['clean_auc']:.3f}. It falls by {_interval(row, 'fall')} without {units}, "
        f"by {_shown(row['random_fall'])} without {as_many} of equal frequency (p {row['p']:.2g}, q {row['q']:.2g} over "
        f"the concepts), and by {_shown(row['direction_fall'])} after changes of equal norm in random directions (p "
        f"{row['direction_p']:.2g})."
    )
    yield from _few(row)
    if row["others_fall"] is not None:
        yield (
            f"Other concepts fall by {_shown(row['others_fall'])} on average, {row['most_affected']} most, by "
            f"{_shown(row['most_affected_fall'])}; an ablated feature is active on "
            f"{row['others_active_share']:.0%} of their words. The excess over random features, minus that of other "
            f"concepts, is {_interval(row, 'specificity')}."
        )
    else:
        yield "No other concept could be compared, so the effect may not be specific."
    yield (
        f"The ablation changes the activations by {row['size']:.1%} of their norm; that of {as_many} by "
        f"{row['random_size']:.1%}."
    )
    yield from _predictions(row, as_many)


def _conclusion(row: Mapping[str, Any], units: str) -> str:
    if not (_positive(row, "fall") and _positive(row, "excess") and row["q"] <= LEVEL):
        return f"later probes are not shown to need {units} more than random features"
    if not (_positive(row, "direction_excess") and row["direction_p"] <= LEVEL):
        return (
            f"later probes need {units} more than random features, but a change of equal norm in random "
            "directions may have the same effect"
        )
    if not _positive(row, "specificity"):
        return f"later probes need {units}, but the effect is not shown to be specific"
    if row["most_affected_fall"] < row["fall"]:
        return f"later probes need {units}, for this concept more than for others"
    return (
        f"later probes need {units}, for this concept more than for others on average, but {row['most_affected']} "
        "falls as much"
    )


def _few(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield what limits the comparison with random features."""
    if row["candidates"] < FEW_CANDIDATES * row["k"]:
        yield (
            f"The random sets are drawn from {counted(row['candidates'], 'other feature')} and the best; with fewer than "
            f"{FEW_CANDIDATES * row['k']} they share many of the best, and their difference is understated."
        )
    if 1 / (1 + row["sets"]) > LEVEL:
        yield (
            f"{counted(row['sets'], 'distinct random set')} cannot give a p below {1 / (1 + row['sets']):.2g}."
        )


def _predictions(row: Mapping[str, Any], as_many: str) -> Iterator[str]:
    """Yield how much the next token changes, on neutral text and at the words."""
    if row.get("text_kl") is None or row.get("words_kl") is None:
        return
    more = "more than" if row["text_kl_p"] <= LEVEL else "not shown to be more than"
    yield (
        f"Predictions of the next token change by {_nats(row['text_kl'])} nats of KL per token of neutral text, "
        f"{more} without {as_many} ({_nats(row['random_text_kl'])}, p {row['text_kl_p']:.2g}); changes of equal norm: "
        f"{_nats(row['direction_text_kl'])}. At the words: {_nats(row['words_kl'])}, "
        f"{_nats(row['random_words_kl'])} (p {row['words_kl_p']:.2g}) and {_nats(row['direction_words_kl'])}."
    )


def _nats(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 0.1 else f"{value:.2f}"


def _positive(row: Mapping[str, Any], name: str) -> bool:
    low = row[f"{name}_low"]
    return low is not None and low > 0


def _interval(row: Mapping[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return _shown(row[name]) + (f" ({_shown(low)} to {_shown(high)})" if low is not None else "")


def _shown(value: float) -> str:
    """Return three decimals; a small number below 0 has no sign."""
    return f"{round(value, 3) + 0.0:.3f}"
