"""Interpretability metrics of the arms of a study: tokens, verdicts, matches."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.probe.tables import RUNGS, VERDICTS, ladder
from analysis.residual.report.arm_difference import mean_over_seeds
from analysis.residual.report.study import ARMS, Probed, ResidualStudy
from atlas.disk.folder import Sound
from atlas.disk.parts import Part

__all__ = [
    "TOKEN_METRICS",
    "arm_rows",
    "least_entropy",
    "match_rows",
    "score_rows",
    "token_metrics",
]

#: Metrics whose mean over the features of an arm is reported, with their headings.
TOKEN_METRICS: dict[str, str] = {
    "top_share": "share of a feature's active tokens that have its most frequent id",
    "entropy": "entropy of its token ids in bits (lower bound)",
    "tokens": "effective number of token ids: 2 to that entropy (lower bound)",
}

_SCORES = (
    "balanced_accuracy",
    "token_table",
    "token_ceiling",
    "control",
    "selectivity",
    "shuffled",
)


def least_entropy(
    counts: NDArray[np.int64], of: NDArray[np.intp], totals: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return a lower bound of the entropy, in bits, of each feature's token ids.

    Only the most frequent ids of a feature may be stored. Each other id then has at most the
    smallest stored count, and entropy is smallest if the other ids are as few as possible. The
    bound is exact if all ids are stored.

    Parameters
    ----------
    counts
        int64, (stored ids,), above 0. Number of active tokens of a feature with one id.
    of
        intp, (stored ids,). Index of the feature.
    totals
        int64, (features,). Number of active tokens of each feature.

    Returns
    -------
    float64, (features,). NaN if no id is stored.
    """
    stored = np.bincount(of, counts, minlength=len(totals)).astype(np.int64)
    least = np.full(len(totals), np.iinfo(np.int64).max)
    np.minimum.at(least, of, counts)
    full, last = np.divmod(totals - stored, least)
    known = np.bincount(of, _surprise(counts, totals[of]), minlength=len(totals))
    entropy = known + full * _surprise(least, totals) + _surprise(last, totals)
    return np.where(stored > 0, entropy, np.nan)


def _surprise(counts: NDArray[np.int64], totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return -p log2 p for p = counts / totals; 0 if the count is 0 or not below the total."""
    inside = (counts > 0) & (counts < totals)
    p = np.divide(counts, totals, out=np.ones(len(counts)), where=inside)
    return np.asarray(-p * np.log2(p)) + 0.0  # no -0


def token_metrics(sound: Sound, sae: str) -> pd.DataFrame:
    """Return the token metrics of each live feature.

    Returns
    -------
    table
        ``idx``, ``active_tokens``, ``top_share``, ``entropy`` (bits), ``tokens`` and ``stored_share``,
        the share of active tokens with a stored id. ``entropy`` and ``tokens`` are lower bounds
        if only the most frequent ids are stored. Features without stored ids are excluded; no
        rows if the atlas has no token ids of the SAE.
    """
    columns = ["idx", "active_tokens", "top_share", "entropy", "tokens", "stored_share"]
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
    stored = np.bincount(of, counts, minlength=len(totals))
    of_live = totals[live]
    return pd.DataFrame(
        {
            "idx": live,
            "active_tokens": of_live,
            "top_share": most[live] / of_live,
            "entropy": entropy[live],
            "tokens": 2 ** entropy[live],
            "stored_share": stored[live] / of_live,
        }
    )


def _by_index(statistics: Part) -> NDArray[np.int64]:
    """Return the number of active tokens of each feature, by index."""
    table = statistics.table("Feature").select(["id", "active_tokens"])
    index = [int(id.rpartition("/")[2]) for id in table["id"].to_pylist()]
    totals = np.zeros(len(index), dtype=np.int64)
    totals[index] = table["active_tokens"].to_numpy()
    return totals


def arm_rows(study: ResidualStudy, metrics: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Summarize each arm by means over seeds: features, filter, scores, verdicts and token metrics.

    Draws of one seed are averaged first, so that all seeds have equal weight.

    Parameters
    ----------
    study
        The study.
    metrics
        Results of ``token_metrics`` by SAE; may be empty.

    Returns
    -------
    rows
        For each arm: ``arm``, ``saes``, ``seeds``, ``features`` (of an SAE), ``probed`` (mean).
        Further columns are of type ``Mean``: ``passed`` (share of features that pass the
        filter), the scores, the share of each verdict as ``verdict <name>``, and ``TOKEN_METRICS``.
    """
    rows = []
    for arm in study.arms_there:
        saes = study.of(arm)
        numbers = pd.DataFrame([_numbers(probed, metrics.get(probed.sae)) for probed in saes])
        seeds = numbers.groupby([probed.seed for probed in saes]).mean()
        row: dict[str, Any] = {
            "arm": arm,
            "saes": len(saes),
            "seeds": len(seeds),
            "features": int(np.mean([probed.features for probed in saes])),
            "probed": round(float(np.mean([len(probed.table) for probed in saes]))),
        }
        for name in map(str, numbers):
            by_seed = zip(seeds.index.tolist(), seeds[name].tolist(), strict=True)
            share = name == "passed" or name.startswith("verdict")
            row[name] = mean_over_seeds(dict(by_seed), within=(0.0, 1.0) if share else None)
        rows.append(row)
    return rows


def _numbers(probed: Probed, metrics: pd.DataFrame | None) -> dict[str, float]:
    """Return the numbers of one SAE that are averaged over seeds."""
    numbers = {"passed": probed.passed}
    numbers |= {name: _mean(probed.table[name]) for name in _SCORES}
    numbers |= {f"verdict {name}": _mean(probed.table["verdict"] == name) for name in VERDICTS}
    return numbers | {
        name: _mean([] if metrics is None else metrics[name]) for name in TOKEN_METRICS
    }


def score_rows(study: ResidualStudy) -> list[dict[str, Any]]:
    """Summarize the scores of each arm's probes in the form of the original study, over all SAEs.

    The original study reported accuracy on data in which most tokens are inactive. That accuracy
    is nearly the specificity, so balanced accuracy is reported too.

    Returns
    -------
    rows
        For each arm and score: ``arm``, ``score`` (``"accuracy"`` or ``"balanced_accuracy"``),
        ``features`` (that the filter was applied to), ``probes`` (with that score), ``mean``,
        ``median``, ``sd`` (population: ddof 0), null without probes, and ``ladder``: for each of
        95, 90, 85, 80 and 75 percent, the ``count`` and ``share`` of probes with at least this
        score.
    """
    rows = []
    for arm in study.arms_there:
        saes = study.of(arm)
        for score in ("accuracy", "balanced_accuracy"):
            values = pd.concat([probed.table[score] for probed in saes]).astype(float).dropna()
            n = len(values)
            rows.append(
                {
                    "arm": arm,
                    "score": score,
                    "features": sum(p.requested for p in saes),
                    "probes": n,
                    "mean": float(values.mean()) if n else None,
                    "median": float(values.median()) if n else None,
                    "sd": float(values.std(ddof=0)) if n else None,
                    "ladder": {
                        f"{low:.0%}": {"count": rung["at_least"], "share": rung["at_least_share"]}
                        for rung, (_, low) in zip(ladder(values), RUNGS, strict=True)
                        if low > 0
                    },
                }
            )
    return rows


def match_rows(sound: Sound, study: ResidualStudy, *, max_q: float = 0.05) -> list[dict[str, Any]]:
    """Count the features with a one-to-one counterpart, for every pair of matched arms.

    Two baselines with different seeds show how much two training runs share in any case.

    Parameters
    ----------
    sound
        The parts of the atlas.
    study
        The study; all its SAEs are used, with or without probes.
    max_q
        Largest q-value of a counterpart.

    Returns
    -------
    rows
        ``one``, ``other`` (arms), ``seeds`` ('same' or 'other' training seeds), ``pairs`` (of SAEs),
        and means over pairs: ``counterparts``, ``share`` (of the live features of the SAE with
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
        {
            "one": one,
            "other": other,
            "seeds": seeds,
            "pairs": len(pairs),
            **{name: _mean([row[name] for row in pairs]) for name in pairs[0]},
        }
        for (one, other, seeds), pairs in sorted(
            groups.items(), key=lambda g: (_rank(g[0][0]), _rank(g[0][1]), g[0][2] != "same")
        )
    ]


def _matched(sound: Sound, part: Part, row: dict[str, Any], max_q: float) -> dict[str, Any]:
    """Return the number, share and mean correlation of the counterparts of two SAEs."""
    table = part.table("MATCHES").select(["source", "target", "pearson", "one_to_one", "q"])
    frame: pd.DataFrame = table.to_pandas()
    prefixes = frame["source"].str.startswith(row["source"] + "/") & frame["target"].str.startswith(
        row["target"] + "/"
    )
    chosen = frame[prefixes & (frame["one_to_one"] == True) & (frame["q"] <= max_q)]  # noqa: E712
    live = [
        int(np.count_nonzero(_by_index(sound.parts[f"statistics/{row[end]}"])))
        for end in ("source", "target")
    ]
    return {
        "counterparts": len(chosen),
        "share": len(chosen) / min(live) if min(live) else float("nan"),
        "pearson": _mean(chosen["pearson"]),
        "null_threshold": row["null_threshold"],
    }


def _rank(arm: str) -> int:
    return list(ARMS).index(arm) if arm in ARMS else len(ARMS)


def _mean(values: Any) -> float:
    finite = pd.Series(values, dtype="float64").dropna()
    return float(finite.mean()) if len(finite) else float("nan")
