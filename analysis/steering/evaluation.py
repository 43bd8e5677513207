"""Evaluation of the arms of a task: a curve over strengths, and the strength that one half chooses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from analysis.statistics.permutation import permutation_p
from analysis.steering.arms import Arm
from analysis.steering.scoring import Damage, Prompts, Score, damage
from analysis.steering.settings import SteeringSettings
from analysis.steering.subject import Subject
from atlas.progress import Progress

__all__ = [
    "RANDOM",
    "RANDOM_SET",
    "choose",
    "curve_of",
    "gain_p",
    "halves_of",
    "success_against_damage",
    "wilson",
    "with_mean_of_random",
]

#: Names of the arms of random features, one or several at a time.
RANDOM, RANDOM_SET = "random feature", "random set"

#: Arms without a strength.
_FIXED = ("nothing", "reconstruction")


def curve_of(
    subject: Subject,
    prompts: Prompts,
    arms: Sequence[Arm],
    *,
    settings: SteeringSettings,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Return a row for each arm and strength: scores of both halves of the prompts, and damage.

    Parameters
    ----------
    subject
        The SAE and its model.
    prompts
        The test prompts.
    arms
        The arms.
    settings
        Strengths, edited tokens, and size of the neutral text.
    progress
        Shows how far the work is.
    """
    points = [
        (number, arm, strength)
        for number, arm in enumerate(arms)
        for strength in ((0.0,) if arm.name in _FIXED else settings.strengths)
    ]
    # On neutral text every token is edited: the edit of last tokens alone would show no damage.
    text = list(subject.neutral(settings.neutral_tokens, seed=settings.seed))
    harm = damage(
        subject,
        text,
        [arm.edits(strength, "all") for _, arm, strength in points],
        progress=progress,
    )
    halves = halves_of(prompts.number, seed=settings.seed)
    rows = []
    plain = np.zeros(prompts.number, dtype=np.bool_)  # successes of the first arm, no edit
    with progress.stage("Scores of prompts", total=len(points), unit="edits") as stage:
        for (number, arm, strength), harmed in zip(points, harm, strict=True):
            score = prompts.score(subject, arm.edits(strength, settings.at))
            plain = score.success if arm.name == "nothing" else plain
            rows.append(
                {
                    "number": number,
                    "arm": arm.name,
                    "features": [f"{subject.name}/{i}" for i in arm.features],
                    "strength": strength,
                }
                | dict(_scores(score, harmed, halves, plain=plain))
            )
            stage.advance()
    return rows


def halves_of(number: int, *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the prompts of the development half and of the test half, at random.

    Examples
    --------
    >>> development, test = halves_of(5, seed=0)
    >>> len(development), len(test), sorted([*development.tolist(), *test.tolist()])
    (2, 3, [0, 1, 2, 3, 4])
    """
    order = np.random.default_rng(seed).permutation(number)
    return np.sort(order[: number // 2]), np.sort(order[number // 2 :])


def choose(curve: Sequence[Mapping[str, Any]], *, most_kl: float) -> list[dict[str, Any]]:
    """Return a row for each arm, at the strength with the most success on the development half.

    Ties are decided by the log-probability of the targets there. Strengths with a larger KL on
    the neutral text for choosing are excluded; where none remains, the lowest KL counts. The
    scores are those of the test half, with the Wilson interval of the success. ``gain_p``
    compares it with no edit on the same prompts. ``success_p`` is
    the share of random features, this arm included, with at least as many successes, and
    ``logprob_p`` of those whose targets are at least as likely; of a set of features, the share
    of random sets.

    Parameters
    ----------
    curve
        Rows of ``curve_of``.
    most_kl
        Largest KL of a strength that can be chosen.
    """
    chosen = []
    for number in sorted({row["number"] for row in curve}):
        own = [row for row in curve if row["number"] == number]
        allowed = [row for row in own if row["kl_development"] <= most_kl]
        best = max(
            allowed or [min(own, key=lambda row: row["kl_development"])],
            key=lambda row: (row["success_development"], row["logprob_development"]),
        )
        low, high = wilson(best["success"], best["prompts"])
        chosen.append(dict(best) | {"low": low, "high": high})
    plain = chosen[0]["logprob"]
    for row in chosen:
        compared = row["arm"] not in ("nothing", RANDOM, RANDOM_SET)
        row["gain_p"] = gain_p(row["gained"], row["lost"]) if compared else None
        row["logprob_change"] = row["logprob"] - plain
        control = {"feature": RANDOM, "difference of means": RANDOM, "set": RANDOM_SET}.get(
            row["arm"]
        )
        random = [one for one in chosen if one["arm"] == control]
        for name in ("success", "logprob"):
            values = np.array([one[name] for one in random], float)
            row[f"{name}_p"] = permutation_p(row[name], values)
    return chosen


def with_mean_of_random(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of ``choose`` with one row of means for all arms of random features or sets.

    Examples
    --------
    >>> rows = [{"arm": RANDOM, "success": 1, "kl": 0.5}, {"arm": RANDOM, "success": 2, "kl": 0.1}]
    >>> with_mean_of_random(rows)
    [{'arm': 'random feature, mean of 2', 'success': 1.5, 'kl': 0.3}]
    """
    found = [dict(row) for row in arms if row["arm"] not in (RANDOM, RANDOM_SET)]
    for name in (RANDOM, RANDOM_SET):
        own = [row for row in arms if row["arm"] == name]
        if own:
            numbers = [k for k, v in own[0].items() if isinstance(v, int | float)]
            means: dict[str, Any] = {k: float(np.mean([row[k] for row in own])) for k in numbers}
            # Draws are no prompts, so their mean has no Wilson interval.
            means |= {k: None for k in ("low", "high") if k in own[0]}
            found.append({"arm": f"{name}, mean of {len(own)}"} | means)
    return found


def success_against_damage(curve: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each strength: by arm, successes on the test half and nats lost on neutral text.

    Random arms have means over all of them.

    Parameters
    ----------
    curve
        Rows of ``curve_of``.

    Examples
    --------
    >>> row = {"arm": "feature", "strength": 2.0, "success": 3, "loss": 0.25}
    >>> success_against_damage([row, row | {"arm": RANDOM, "success": 1, "loss": 0.125}])
    [{'strength': 2.0, 'feature': '3 (0.25)', 'random feature': '1.0 (0.12)'}]
    """
    steered = [row for row in curve if row["arm"] not in _FIXED]
    rows = []
    for strength in sorted({row["strength"] for row in steered}):
        cells: dict[str, Any] = {"strength": strength}
        for arm in dict.fromkeys(row["arm"] for row in steered):
            own = [row for row in steered if (row["arm"], row["strength"]) == (arm, strength)]
            loss = np.mean([row["loss"] for row in own])
            success = np.mean([row["success"] for row in own])
            shown = f"{success:.1f}" if arm in (RANDOM, RANDOM_SET) else f"{success:.0f}"
            cells[arm] = f"{shown} ({loss:.2f})"
        rows.append(cells)
    return rows


def wilson(success: int, number: int) -> tuple[float, float]:
    """Return the 95% Wilson interval of a share.

    Examples
    --------
    >>> [round(x, 3) for x in wilson(8, 10)]
    [0.49, 0.943]
    """
    if not number:
        return 0.0, 1.0
    found = binomtest(success, number).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def gain_p(gained: int, lost: int) -> float:
    """Return the one-sided p of McNemar's exact test: that an edit gains no more prompts than it loses.

    Parameters
    ----------
    gained, lost
        Prompts that succeed only with the edit, and only without it.

    Examples
    --------
    >>> gain_p(3, 0), gain_p(0, 0)
    (0.125, 1.0)

    References
    ----------
    .. [1] Q. McNemar, "Note on the sampling error of the difference between correlated proportions
       or percentages", Psychometrika 12, 1947.
    """
    if not gained + lost:
        return 1.0
    return float(binomtest(gained, gained + lost, alternative="greater").pvalue)


def _scores(
    score: Score,
    harmed: Damage,
    halves: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    plain: NDArray[np.bool_],
) -> Iterator[tuple[str, Any]]:
    for suffix, own, side in (("_development", halves[0], 0), ("", halves[1], 1)):
        yield f"prompts{suffix}", len(own)
        yield f"success{suffix}", int(score.success[own].sum())
        yield f"gained{suffix}", int((score.success & ~plain)[own].sum())
        yield f"lost{suffix}", int((plain & ~score.success)[own].sum())
        yield f"logprob{suffix}", float(score.logprob[own].mean())
        yield f"kl{suffix}", harmed.kl[side]
        yield f"loss{suffix}", harmed.loss[side]
