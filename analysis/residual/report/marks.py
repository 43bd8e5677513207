"""Are residual features harder to interpret? Marks without a judge, by arm, with the study's controls.

The marks come from `atlas describe`. The comparison is that of the probes (``arm_difference``):
features of similar frequency, with the training seed as the replicate.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.interpretability.marks import MARKS
from analysis.residual.report.arm_difference import Sample, difference, mean_over_seeds
from analysis.residual.report.study import ARMS, PAIRS, ResidualStudy
from atlas.disk.folder import Sound
from atlas.errors import Mismatch
from ingest.statistics.discoveries import q_values

__all__ = [
    "CONTROLS_OF_MARKS",
    "HARDER",
    "mark_differences",
    "mark_rows",
    "marks_verdict",
    "read_marks",
    "separating",
]

#: Whether a larger value of a mark means that a feature is harder (1) or easier (-1) to interpret.
HARDER: dict[str, int] = {
    "top_share": -1,
    "entropy": 1,
    "context_dependence": 1,
    "agreement": -1,
    "detection": -1,
}

#: The marks' own controls: the same score with the examples or description of another feature.
CONTROLS_OF_MARKS: dict[str, str] = {
    "agreement_control": "agreement with another feature's middle examples",
    "detection_control": "detection with another feature's description",
}

#: The arms that a verdict needs: removing equal variance, and removing token means.
_AGAINST = ("components", "token-means")

_CONTROL_OF = {"agreement": "agreement_control", "detection": "detection_control"}

_MAX_Q = 0.05


def read_marks(
    sound: Sound, study: ResidualStudy
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Return the table of marks of each SAE of a study that has one, and their settings.

    Raises
    ------
    Mismatch
        If the marks of two SAEs were measured with different settings.
    """
    found: dict[str, pd.DataFrame] = {}
    first: dict[str, Any] = {}
    for sae in study.arms["sae"]:
        part = sound.parts.get(f"interpretability/{sae}")
        if part is None:
            continue
        settings = dict(part.manifest.settings)
        first = first or settings
        if settings != first:
            raise Mismatch(
                f"The marks of {sae} were measured with other settings than those of {next(iter(found))}, so "
                "they cannot be compared. Measure all SAEs of the study with one `atlas describe "
                "--replace`."
            )
        found[sae] = part.table("marks").to_pandas()
    return found, first


def separating(sound: Sound, study: ResidualStudy) -> dict[str, int]:
    """Return the number of features of each SAE that separate a concept, if concepts were tested.

    These are the features with an edge SEPARATES, which `atlas concepts` stores for features with a
    small family-wise p. SAEs without a test are absent.
    """
    found: dict[str, set[str]] = {}
    names = set(study.arms["sae"])
    for part in sound.of("concepts"):
        if "SEPARATES" not in part.manifest.tables:
            continue
        for sae in names.intersection(part.manifest.saes):
            found.setdefault(sae, set())
        for source in part.table("SEPARATES")["source"].to_pylist():
            sae = source.rpartition("/")[0]
            if sae in found:
                found[sae].add(source)
    return {sae: len(features) for sae, features in found.items()}


def mark_rows(
    study: ResidualStudy,
    marks: Mapping[str, pd.DataFrame],
    separate: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Return for each arm the mean of each mark over seeds.

    Parameters
    ----------
    study
        The study.
    marks
        The tables of ``read_marks``.
    separate
        The result of ``separating``.

    Returns
    -------
    rows
        ``arm``, ``saes``, ``features`` (mean number with marks), and a ``Mean`` for each mark and
        each of ``CONTROLS_OF_MARKS``; ``concepts`` is that of the share of an SAE's features that
        separate a concept, if all SAEs of the arm were tested. Draws of one seed are averaged first.
    """
    rows = []
    for arm, own in _by_arm(study, marks).items():
        row: dict[str, Any] = {
            "arm": arm,
            "saes": len(own),
            "features": round(float(np.mean([len(marks[sae]) for sae, _, _ in own]))),
        }
        width = dict(zip(study.arms["sae"], study.arms["d_sae"], strict=True))
        tested = separate is not None and all(sae in separate for sae, _, _ in own)
        for name in (*MARKS, *CONTROLS_OF_MARKS, *(["concepts"] if tested else [])):
            means = [
                _mean(marks[sae], name)
                if name != "concepts"
                else (separate or {})[sae] / width[sae]
                for sae, _, _ in own
            ]
            seeds = np.array([seed for _, seed, _ in own])
            row[name] = mean_over_seeds(
                {s: float(np.mean(np.array(means)[seeds == s])) for s in np.unique(seeds).tolist()}
            )
        rows.append(row)
    return rows


def mark_differences(
    study: ResidualStudy, marks: Mapping[str, pd.DataFrame], *, strata: int = 5
) -> list[dict[str, Any]]:
    """Return the difference of each mark between pairs of arms, on features of similar frequency.

    Agreement and detection are compared after the control of the feature was subtracted, since
    features of broad token distributions agree with any other feature.

    Parameters
    ----------
    study
        The study.
    marks
        The tables of ``read_marks``.
    strata
        Number of strata by active tokens of the half of the documents that scores descriptions.

    Returns
    -------
    rows
        For each mark and pair of arms: ``mark``, ``one``, ``other``, ``mean`` (one minus other),
        ``low``, ``high`` (95% interval over seeds, None below two), ``seeds``, ``p`` (sign-flip
        test), ``p_floor``, ``q`` (Benjamini-Hochberg over all rows) and ``harder``: whether the
        features of ``one`` are harder to interpret by this mark (True), easier (False), or
        neither, where q exceeds .05 or the interval covers 0 (None).
    """
    by_arm = _by_arm(study, marks)
    rows: list[dict[str, Any]] = []
    for mark in MARKS:
        samples = {
            arm: [_sample(marks[sae], mark, seed, draw) for sae, seed, draw in own]
            for arm, own in by_arm.items()
        }
        for one, other in PAIRS:
            if one not in samples or other not in samples:
                continue
            found = difference(samples[one], samples[other], names=(one, other), strata=strata)
            if found.mean is not None:
                names = ("one", "other", "mean", "low", "high", "seeds", "p", "p_floor")
                rows.append({"mark": mark} | {name: getattr(found, name) for name in names})
    for row, q in zip(rows, q_values([row["p"] for row in rows]), strict=True):
        row["q"] = q
        row["harder"] = _harder(row)
    return rows


def marks_verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return in words whether residual features are harder to interpret than those of the controls.

    The verdict requires a mark that is harder than both controls, and none that is easier than a
    control. Otherwise each control has its own sentence only. Empty without both controls.
    """
    pairs = {(row["mark"], row["other"]): row for row in rows if row["one"] == "residual"}
    known = [m for m in MARKS if all((m, arm) in pairs for arm in _AGAINST)]
    if not known:
        return ""
    found = {
        arm: {way: [m for m in known if pairs[m, arm]["harder"] is way] for way in (True, False)}
        for arm in _AGAINST
    }
    both = {
        way: [m for m in known if all(m in found[arm][way] for arm in _AGAINST)]
        for way in (True, False)
    }
    some = {way: any(found[arm][way] for arm in _AGAINST) for way in (True, False)}
    if both[True] and not some[False]:
        begin = "Residual features are harder to interpret than those of both controls."
    elif both[False] and not some[True]:
        begin = "Residual features are easier to interpret than those of both controls."
    else:
        begin = (
            "The marks do not show that residual features are harder or easier to interpret than those "
            "of both controls."
        )
    sentences = [begin]
    for arm in _AGAINST:
        parts = [
            f"{word} by {', '.join(name.replace('_', ' ') for name in found[arm][way])}"
            for way, word in ((True, "harder"), (False, "easier"))
            if found[arm][way]
        ]
        sentences.append(f"Compared with {arm}: {'; '.join(parts) or 'no difference'}.")
    seeds = min(pairs[m, arm]["seeds"] for m in known for arm in _AGAINST)
    if seeds < 6:
        sentences.append(f"With {seeds} seeds no q of .05 is possible; six are needed.")
    return " ".join(sentences)


def _by_arm(
    study: ResidualStudy, marks: Mapping[str, pd.DataFrame]
) -> dict[str, list[tuple[str, int, int | None]]]:
    """Return SAE, seed and draw of the SAEs with marks, by arm in the order of display."""
    found: dict[str, list[tuple[str, int, int | None]]] = {}
    for row in study.arms.to_dict("records"):
        if len(marks.get(row["sae"], ())):
            draw = None if pd.isna(row.get("draw")) else int(row["draw"])
            found.setdefault(row["arm"], []).append((row["sae"], int(row["seed"]), draw))
    order = [arm for arm in ARMS if arm in found]
    return {arm: found[arm] for arm in (*order, *sorted(found.keys() - set(order)))}


def _sample(table: pd.DataFrame, mark: str, seed: int, draw: int | None) -> Sample:
    values = table[mark]
    if mark in _CONTROL_OF:
        values = values - table[_CONTROL_OF[mark]]
    known = values.notna()
    positives = table["positives"][known].to_numpy(np.int64)
    return Sample(seed, values[known].to_numpy(np.float64), positives, None, draw)


def _harder(row: Mapping[str, Any]) -> bool | None:
    sure = row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
    if not sure or row["q"] > _MAX_Q:
        return None
    return bool(row["mean"] * HARDER[row["mark"]] > 0)


def _mean(table: pd.DataFrame, name: str) -> float:
    return float(table[name].mean()) if len(table) else float("nan")
