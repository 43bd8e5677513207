"""Marks of interpretability beside the arms of a study: tokens, verdicts, matches."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.probe.tables import RUNGS, VERDICTS, ladder
from analysis.residual.report.arm_difference import mean_over_seeds
from analysis.residual.report.study import ARMS, Probed, Study
from atlas.folder import Sound
from atlas.parts import Part

__all__ = ["MARKS", "arm_rows", "least_entropy", "match_rows", "score_rows", "token_marks"]

#: Means told of each arm's features: what it is, and whether only probed features have it.
MARKS: dict[str, str] = {
    "top_share": "share of a feature's active tokens that are its commonest one",
    "entropy": "entropy of its tokens in bits, at least",
    "tokens": "2 to that entropy: tokens it is on, effectively, at least",
}

_SCORES = (
    "balanced_accuracy", "token_table", "token_ceiling", "control", "selectivity", "shuffled",
)  # fmt: skip


def least_entropy(
    counts: NDArray[np.int64], of: NDArray[np.intp], totals: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the least entropy, in bits, that each feature's tokens can have.

    Where only its commonest tokens are kept, the rest lies on tokens of at most the least
    count kept; entropy is least if they are as few as that allows. It is exact where all
    are kept.

    Parameters
    ----------
    counts
        int64, (tokens kept,), above 0. How often a feature is active on one of its tokens.
    of
        intp, likewise. Which feature it is.
    totals
        int64, (features,). How often each is active.

    Returns
    -------
    float64, (features,). NaN where no token is kept.
    """
    kept = np.bincount(of, counts, minlength=len(totals)).astype(np.int64)
    least = np.full(len(totals), np.iinfo(np.int64).max)
    np.minimum.at(least, of, counts)
    full, last = np.divmod(totals - kept, least)
    known = np.bincount(of, _surprise(counts, totals[of]), minlength=len(totals))
    entropy = known + full * _surprise(least, totals) + _surprise(last, totals)
    return np.where(kept > 0, entropy, np.nan)


def _surprise(counts: NDArray[np.int64], totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return -p log2 p of counts / totals, 0 where either is 0 or there are more than the total."""
    there = (counts > 0) & (counts < totals)
    p = np.divide(counts, totals, out=np.ones(len(counts)), where=there)
    return np.asarray(-p * np.log2(p)) + 0.0  # no -0


def token_marks(sound: Sound, sae: str) -> pd.DataFrame:
    """Return what the tokens of each live feature say of it.

    Returns
    -------
    table
        ``idx``, ``active_tokens``, ``top_share``, ``entropy`` (bits) and ``tokens``, both lower
        bounds where only the commonest tokens are kept, and ``kept``: the share of its activity
        that the tokens kept hold. Features without kept tokens are left out; no rows if the
        atlas has no tokens of the SAE.
    """
    columns = ["idx", "active_tokens", "top_share", "entropy", "tokens", "kept"]
    if f"tokens/{sae}" not in sound.parts or f"statistics/{sae}" not in sound.parts:
        return pd.DataFrame(columns=columns)
    totals = _by_index(sound.parts[f"statistics/{sae}"])
    fires = sound.parts[f"tokens/{sae}"].table("FIRES_ON").select(["source", "count"])
    counts = fires["count"].to_numpy()
    of = np.array([int(s.rpartition("/")[2]) for s in fires["source"].to_pylist()], dtype=np.intp)
    of, counts = of[counts > 0], counts[counts > 0]
    most = np.zeros(len(totals), dtype=np.int64)
    np.maximum.at(most, of, counts)
    entropy = least_entropy(counts, of, totals)
    live = np.flatnonzero(most)
    kept = np.bincount(of, counts, minlength=len(totals))
    of_live = totals[live]
    return pd.DataFrame({
        "idx": live, "active_tokens": of_live, "top_share": most[live] / of_live,
        "entropy": entropy[live], "tokens": 2 ** entropy[live], "kept": kept[live] / of_live,
    })  # fmt: skip


def _by_index(statistics: Part) -> NDArray[np.int64]:
    """Return on how many tokens each feature is active, by its index."""
    table = statistics.table("Feature").select(["id", "active_tokens"])
    index = [int(id.rpartition("/")[2]) for id in table["id"].to_pylist()]
    totals = np.zeros(len(index), dtype=np.int64)
    totals[index] = table["active_tokens"].to_numpy()
    return totals


def arm_rows(study: Study, marks: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Describe each arm: features, filter, scores, verdicts and marks, as means over seeds.

    Draws of one seed are averaged first, so that every seed weighs the same.

    Parameters
    ----------
    study
        The study.
    marks
        What ``token_marks`` returned, by SAE; may be empty.

    Returns
    -------
    rows
        For each arm: ``arm``, ``saes``, ``seeds``, ``features`` (of an SAE), ``probed`` (mean), and
        as ``Mean`` each: ``passed`` (share of features that pass the filter), the scores, the
        share of each verdict as ``verdict <name>``, and the names of ``MARKS``.
    """
    rows = []
    for arm in study.arms_there:
        of = study.of(arm)
        numbers = pd.DataFrame([_numbers(probed, marks.get(probed.sae)) for probed in of])
        seeds = numbers.groupby([probed.seed for probed in of]).mean()
        row: dict[str, Any] = {
            "arm": arm, "saes": len(of), "seeds": len(seeds),
            "features": int(np.mean([probed.features for probed in of])),
            "probed": round(float(np.mean([len(probed.table) for probed in of]))),
        }  # fmt: skip
        for name in map(str, numbers):
            by_seed = zip(seeds.index.tolist(), seeds[name].tolist(), strict=True)
            share = name == "passed" or name.startswith("verdict")
            row[name] = mean_over_seeds(dict(by_seed), within=(0.0, 1.0) if share else None)
        rows.append(row)
    return rows


def _numbers(of: Probed, marks: pd.DataFrame | None) -> dict[str, float]:
    """Return what is told of one SAE."""
    said = {"passed": of.passed}
    said |= {name: _mean(of.table[name]) for name in _SCORES}
    said |= {f"verdict {name}": _mean(of.table["verdict"] == name) for name in VERDICTS}
    return said | {name: _mean([] if marks is None else marks[name]) for name in MARKS}


def score_rows(study: Study) -> list[dict[str, Any]]:
    """Tell the scores of each arm's probes as the source told its own, over all its SAEs together.

    The source's accuracy was taken where most tokens are inactive, so that it is nearly the
    share of inactive tokens told rightly; balanced accuracy stands beside it.

    Returns
    -------
    rows
        For each arm and score: ``arm``, ``score`` (``"accuracy"`` or ``"balanced_accuracy"``),
        ``features`` (that were asked), ``probes`` (of those that passed the filter and have the
        score), ``mean``, ``median``, ``sd`` (population: ddof 0), null without probes, and
        ``ladder``: for each of 95, 90, 85, 80 and 75 percent the ``count`` and ``share`` of
        probes that score so much or more.
    """
    rows = []
    for arm in study.arms_there:
        of = study.of(arm)
        for score in ("accuracy", "balanced_accuracy"):
            values = pd.concat([probed.table[score] for probed in of]).astype(float).dropna()
            n = len(values)
            rows.append({
                "arm": arm, "score": score, "features": sum(p.asked for p in of), "probes": n,
                "mean": float(values.mean()) if n else None,
                "median": float(values.median()) if n else None,
                "sd": float(values.std(ddof=0)) if n else None,
                "ladder": {
                    f"{low:.0%}": {"count": rung["at_least"], "share": rung["at_least_share"]}
                    for rung, (_, low) in zip(ladder(values), RUNGS, strict=True) if low > 0
                },
            })  # fmt: skip
    return rows


def match_rows(sound: Sound, study: Study, *, max_q: float = 0.05) -> list[dict[str, Any]]:
    """Say how many features have a one-to-one counterpart, for every two arms that were matched.

    Two baselines of other seeds are the measure of what two trainings share anyhow.

    Parameters
    ----------
    sound
        The parts of the atlas.
    study
        The study; all its SAEs are looked at, probed or not.
    max_q
        Largest q of a counterpart.

    Returns
    -------
    rows
        ``one``, ``other`` (arms), ``seeds`` ('same' or 'other' training seeds), ``pairs`` (of SAEs),
        and means over them: ``counterparts``, ``share`` (of the live features of the SAE that has
        fewer), ``pearson`` (of the counterparts) and ``null_threshold``.
    """
    of_sae = {row["sae"]: row for row in study.arms.to_dict("records")}
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for part in sound.of("match"):
        for row in part.table("COMPARED_WITH").to_pylist():
            if row["source"] in of_sae and row["target"] in of_sae:
                ends = sorted(
                    (of_sae[row["source"]], of_sae[row["target"]]), key=lambda e: _rank(e["arm"])
                )
                same = "same" if ends[0]["seed"] == ends[1]["seed"] else "other"
                key = (ends[0]["arm"], ends[1]["arm"], same)
                groups.setdefault(key, []).append(_matched(sound, part, row, max_q))
    return [
        {"one": one, "other": other, "seeds": seeds, "pairs": len(of),
         **{name: _mean([row[name] for row in of]) for name in of[0]}}
        for (one, other, seeds), of in sorted(
            groups.items(), key=lambda g: (_rank(g[0][0]), _rank(g[0][1]), g[0][2] != "same")
        )
    ]  # fmt: skip


def _matched(sound: Sound, part: Part, row: dict[str, Any], max_q: float) -> dict[str, Any]:
    """Return the counterparts of two SAEs."""
    table = part.table("MATCHES").select(["source", "target", "pearson", "one_to_one", "q"])
    frame: pd.DataFrame = table.to_pandas()
    prefixes = (frame["source"].str.startswith(row["source"] + "/")
                & frame["target"].str.startswith(row["target"] + "/"))  # fmt: skip
    kept = frame[prefixes & (frame["one_to_one"] == True) & (frame["q"] <= max_q)]  # noqa: E712
    live = [
        int(np.count_nonzero(_by_index(sound.parts[f"statistics/{row[end]}"])))
        for end in ("source", "target")
    ]
    return {
        "counterparts": len(kept), "share": len(kept) / min(live) if min(live) else float("nan"),
        "pearson": _mean(kept["pearson"]), "null_threshold": row["null_threshold"],
    }  # fmt: skip


def _rank(arm: str) -> int:
    return list(ARMS).index(arm) if arm in ARMS else len(ARMS)


def _mean(values: Any) -> float:
    there = pd.Series(values, dtype="float64").dropna()
    return float(there.mean()) if len(there) else float("nan")
