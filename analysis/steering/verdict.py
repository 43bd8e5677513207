"""Sentences that interpret a result of steering, and the rule by which an arm steers.

An arm steers if it succeeds on more prompts than no edit, by an exact test on the same prompts, and
more often than random features (random sets, for a set). Both p must be at most .05. The second is
only used with so many random features that the lowest possible p is at most half of that: else one
value of p would decide.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["FEWEST_RANDOM", "steers", "verdict_of"]

#: p up to which an arm steers, and the fewest random features with which a p of success is judged.
_LARGEST_P, FEWEST_RANDOM = 0.05, 39

#: Prompts below which a verdict warns.
_FEW = 20


def verdict_of(summary: Mapping[str, Any]) -> list[str]:
    """Return sentences for a result of ``analysis.steering.study.steer_task``.

    Parameters
    ----------
    summary
        The summary of the result.
    """
    if not summary["any_success"]:
        return [_cannot_show(summary), _damage_of_feature(summary)]
    arms = [arm for arm in ("feature", "set", "difference") if f"{arm}_success" in summary]
    sentences = [f"{summary['task']}: {_conclusion(summary, arms[0])}"]
    sentences += [_conclusion(summary, arm) for arm in arms[1:]]
    if any(steers(summary, arm) is not None for arm in arms):
        sentences.append(_rule(summary))
    sentences.append(
        f"The reconstruction alone succeeds on {summary['reconstruction_success']}. 95% intervals of the successes: "
        + ", ".join(f"{_SHORT[arm]} {_interval(summary, arm)}" for arm in arms)
        + "."
    )
    sentences.append(_damage_of_feature(summary))
    sentences += [_damage(summary, arm) for arm in arms[1:]]
    if summary["prompts"] < _FEW:
        sentences.append(
            f"Only {summary['prompts']} prompts are scored, so the intervals are wide."
        )
    return sentences


def steers(summary: Mapping[str, Any], arm: str) -> bool | None:
    """Return whether an arm steers; None if the prompts or the random features cannot show it.

    Parameters
    ----------
    summary
        The summary of a result.
    arm
        ``"feature"``, ``"set"`` or ``"difference"``.

    Examples
    --------
    >>> summary = {"prompts": 10, "nothing_success": 4, "random": 39}
    >>> summary |= {"feature_success": 7, "feature_gain_p": 0.125, "feature_success_p": 0.025}
    >>> steers(summary, "feature")
    False
    """
    if summary[f"{arm}_success"] <= summary["nothing_success"]:
        return False
    if _lowest_gain_p(summary) > _LARGEST_P:
        return None
    gain, against, number = (
        summary[f"{arm}_gain_p"],
        summary[f"{arm}_success_p"],
        _number(summary, arm),
    )
    if gain > _LARGEST_P:
        return False
    if number < FEWEST_RANDOM and (against is None or against <= max(_LARGEST_P, 1 / (1 + number))):
        return None
    return bool(against <= _LARGEST_P)


def _conclusion(summary: Mapping[str, Any], arm: str) -> str:
    """Return whether an arm steers, with its successes, those of its controls, and both p."""
    title = {
        "feature": summary["features"][0],
        "set": f"the set of {len(summary['features'])} features",
        "difference": "the difference of means, without an SAE,",
    }[arm]
    text = f"{title} {_STATES[steers(summary, arm)]}: {_successes(summary, arm)}{_reason(summary, arm)}."
    return text if arm == "feature" else text[0].upper() + text[1:]


_STATES = {
    True: "steers",
    False: "is not shown to steer",
    None: "cannot be shown to steer here",
}

#: Names of arms in a list.
_SHORT = {"feature": "feature", "set": "set", "difference": "difference of means"}


def _successes(summary: Mapping[str, Any], arm: str) -> str:
    """Return the successes of an arm, of no edit and of its random arms, each with the p of it."""
    of = f"{summary[f'{arm}_success']} of {summary['prompts']} test prompts succeed"
    gain, against = summary[f"{arm}_gain_p"], summary[f"{arm}_success_p"]
    plain = f", {summary['nothing_success']} without an edit (p of gain {gain:.2g})"
    if against is None:
        return of + plain
    prefix, what = _random(arm)
    mean = f"{summary[f'{prefix}_success']:.1f} with {what} on average"
    return f"{of}{plain}, and {mean} (p of success {against:.2g})"


def _reason(summary: Mapping[str, Any], arm: str) -> str:
    """Return why an arm cannot be shown to steer; nothing if it can."""
    if steers(summary, arm) is not None:
        return ""
    lowest = _lowest_gain_p(summary)
    if lowest > _LARGEST_P:
        fail = summary["prompts"] - summary["nothing_success"]
        return f". Only {fail} fail without an edit, so p of gain cannot be below {lowest:.2g}"
    number, what = _number(summary, arm), _random(arm)[1]
    return (
        f". With {number} {what}, p of success cannot be below {1 / (1 + number):.2g}; `random={FEWEST_RANDOM}` or more "
        "is needed"
    )


def _rule(summary: Mapping[str, Any]) -> str:
    number = summary["random"]
    return (
        f"An arm steers if both p are at most {_LARGEST_P}. p of gain compares it with no edit on the same prompts "
        f"(McNemar's exact test), p of success with {number} random features or sets, each at its own strength (lowest "
        f"possible p {1 / (1 + number):.2g})."
    )


def _cannot_show(summary: Mapping[str, Any]) -> str:
    made = f" The task was made for {summary['made_for']}." if summary["made_for"] else ""
    return (
        f"{summary['task']}: the task cannot show whether {summary['features'][0]} steers here. No arm reaches a target "
        f"at any strength, nor does the difference of means or one of {summary['random']} random features.{made} "
        "`atlas steer --list-tasks` lists the tasks."
    )


def _lowest_gain_p(summary: Mapping[str, Any]) -> float:
    """Return the p of gain of an edit after which all prompts succeed."""
    return float(0.5 ** (summary["prompts"] - summary["nothing_success"]))


def _random(arm: str) -> tuple[str, str]:
    """Return the key of the number of random arms that an arm is compared with, and their name."""
    return ("random_set", "random sets") if arm == "set" else ("random", "random features")


def _number(summary: Mapping[str, Any], arm: str) -> int:
    return int(summary[_random(arm)[0]])


def _interval(summary: Mapping[str, Any], arm: str) -> str:
    return f"{summary[f'{arm}_low']:.0%} to {summary[f'{arm}_high']:.0%}"


def _damage(summary: Mapping[str, Any], arm: str) -> str:
    name = "" if arm == "feature" else f", {_SHORT[arm]}"
    return (
        f"At strength {summary[f'{arm}_strength']:g}{name}: neutral text loses {summary[f'{arm}_loss']:.3g} nats of "
        f"log-probability per token (KL {summary[f'{arm}_kl']:.3g})."
    )


def _damage_of_feature(summary: Mapping[str, Any]) -> str:
    """Return the damage of the feature, and the change of the targets with its p."""
    p, number = summary["feature_logprob_p"], summary["random"]
    known = (
        ""
        if p is None
        else f" (p of log-probability {p:.2g}, lowest possible {1 / (1 + number):.2g})"
    )
    change = f"{summary['feature_logprob_change']:+.2f}"
    return f"{_damage(summary, 'feature')} The log-probability of the targets changes by {change} nats{known}."
