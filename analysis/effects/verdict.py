"""The sentences of an effects study: predictions with their controls, edges, sums, and what predicts effects."""

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from analysis.effects.edges import about_edges
from atlas.amounts import counted

__all__ = ["about_power", "verdict"]

#: Additivity below which a verdict warns that single effects do not add up.
_ADDITIVE = 0.8

#: Edges below which a verdict has no AUC of edges.
_LEAST_EDGES = 10

#: Largest q of a feature that changes predictions more than random directions.
_LEVEL = 0.05


def verdict(
    summary: Mapping[str, Any],
    *,
    q: float,
    edges: pa.Table | None = None,
    lowest_q: float | None = None,
) -> list[str]:
    """Return the sentences of a result.

    Parameters
    ----------
    summary
        Its summary.
    q
        Largest q of an edge.
    edges
        Its rows of AFFECTS; without them, edges are not stated.
    lowest_q
        Lowest q of its features; without it, the power of the test is not stated.
    """
    found = [_exceeding(summary)]
    of_edges = []
    if edges is not None and summary["on"]:
        number, *of_edges = about_edges(edges, summary["on"].split(", "), q=q)
        found += [number, _replication(summary)]
    if (sentence := _added(summary)) is not None:
        found.append(sentence)
    found += [_size(summary), *of_edges]
    if lowest_q is not None:
        found.append(_significant(summary, lowest_q))
    if summary["rank_correlation"] is not None:
        found.append(
            f"Attribution predicts the measured effects with a rank correlation of "
            f"{summary['rank_correlation']:.2f} over the pairs in which either is not 0."
        )
    if summary["phi_correlation"] is not None:
        found.append(_explained(summary))
    return found


def _exceeding(summary: Mapping[str, Any]) -> str:
    """State how many features change predictions more than their random directions."""
    sae, features = summary["sae"], summary["features"]
    name = f"{sae} (floor, {role})" if (role := summary.get("role")) else sae
    directions = summary["random_directions"] // features
    than = "a random direction" if directions == 1 else f"each of {directions} random directions"
    return (
        f"{name}: ablating {summary['features_above_all_random']:,} of {counted(features, 'feature')} changes "
        f"predictions more than {than} of equal norm (expected if directions do not matter: "
        f"{_whole(features / (directions + 1))})."
    )


def _replication(summary: Mapping[str, Any]) -> str:
    """State how many edges of one half of the documents replicate in the other half."""
    number, again = summary["half_edges"], summary["half_edges_replicated"]
    if not number:
        return (
            "Half of the documents alone give no edge, so the list of edges depends on the sampled tokens: another "
            "`seed` gives another list. More `contexts` and `occurrences` find more edges again."
        )
    return (
        f"Another `seed` gives another list of edges: of {counted(number, 'edge')} found in one half of the documents "
        f"alone, {again:,} ({again / number:.0%}) {'recurs' if again == 1 else 'recur'} in the other half (same sign, "
        f"p ≤ {_LEVEL:g}; without effects at most {_LEVEL:.0%})."
    )


def _significant(summary: Mapping[str, Any], lowest_q: float) -> str:
    """State how many features exceed random directions at a low q, and what limits the number."""
    clear = summary["features_above_random"]
    if clear:
        exceed = "exceeds its" if clear == 1 else "exceed their"
        return f"{counted(clear, 'feature')} {exceed} random directions at q ≤ {_LEVEL:g}."
    directions = summary["random_directions"] // summary["features"]
    power = about_power(
        lowest_q, directions=directions, exceeding=summary["features_above_all_random"]
    )
    return f"No single feature exceeds its random directions at q ≤ {_LEVEL:g}. {power}"


def _whole(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def about_power(lowest_q: float, *, directions: int, exceeding: int) -> str:
    """State the lowest q, and whether the number of random directions limits it.

    A q of n features that exceed d random directions each is at least 1 / (d n); see
    ``analysis.effects.inference.decoy_q``.

    Parameters
    ----------
    lowest_q
        Lowest q of the features.
    directions
        Random directions of each feature, at least 1.
    exceeding
        Features that exceed all of theirs.

    Examples
    --------
    >>> about_power(0.25, directions=3, exceeding=100)
    'The lowest q is 0.25; 100 features that exceed 3 random directions each allow 0.0033. So the number of random directions is not the limit: some exceed the feature by as large a factor.'
    >>> about_power(1.0, directions=1, exceeding=0)
    'The lowest q is 1. With 1 random direction per feature, q ≤ 0.05 needs at least 20 such features; use more `decoys`.'
    """
    needed = math.ceil(round(1 / (_LEVEL * directions), 9))
    if exceeding < needed:
        features = "1 such feature" if needed == 1 else f"at least {needed} such features"
        return (
            f"The lowest q is {lowest_q:.2g}. With {counted(directions, 'random direction')} per feature, "
            f"q ≤ {_LEVEL:g} needs {features}; use more `decoys`."
        )
    least = 1 / (directions * exceeding)
    return (
        f"The lowest q is {lowest_q:.2g}; {counted(exceeding, 'feature')} that "
        f"{'exceeds' if exceeding == 1 else 'exceed'} {counted(directions, 'random direction')} each allow {least:.2g}. "
        "So the number of random directions is not the limit: some exceed the feature by as large a factor."
    )


def _size(summary: Mapping[str, Any]) -> str:
    """Compare the mean KL of features with those of random directions and of other features."""
    found = (
        f"Ablating a feature at a token changes the predictions by {summary['kl']:.3g} nats of KL on average, summed "
        f"over this token and later ones. Random directions change them by {summary['kl_random']:.3g} "
        f"({_difference(summary, 'above_random')} over documents). "
    )
    compared = f"{_compared(summary, 'above_random')} random directions"
    if summary["kl_other"] is None:
        found += "No other feature is active at these tokens. "
    else:
        found += (
            f"Other features that are active at the same tokens change them by {summary['kl_other']:.3g} "
            f"({_difference(summary, 'above_other')}; at {summary['tokens_with_other']:.0%} of the tokens). "
        )
        compared += f", and {_compared(summary, 'above_other')} other active features"
    return f"{found}So the mean effect of a feature {compared}."


def _difference(summary: Mapping[str, Any], name: str) -> str:
    value, low, high = (summary[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"difference {value:.2g}, 95% {low:.2g} to {high:.2g}"


def _compared(summary: Mapping[str, Any], name: str) -> str:
    """Return what the interval of a difference shows."""
    if summary[f"{name}_low"] > 0:
        return "exceeds that of"
    if summary[f"{name}_high"] < 0:
        return "is smaller than that of"
    return "is not shown to differ from that of"


def _added(summary: Mapping[str, Any]) -> str | None:
    """State whether single effects add up: those on targets, or on the loss without any target."""
    of_targets = summary["additivity_targets"] is not None
    added = summary["additivity_targets" if of_targets else "additivity_ce"]
    if added is None:
        return None
    ratio, where = summary["joint_kl_ratio"], "on later features" if of_targets else "on the loss"
    adds = "add up" if added >= _ADDITIVE else "do not add up"
    found = (
        f"Single effects {adds}: their sum {_predicts(added)} the effect {where} of ablating all features at a token "
        f"together (additivity {added:.2f}; 1: the sum equals it; 0: it predicts no better than no effect)."
    )
    if ratio is not None:
        found += f" The joint ablation has {ratio:.2g} times the KL of the single ones together (joint_kl_ratio)."
    return found


def _predicts(added: float) -> str:
    if added >= _ADDITIVE:
        return "predicts"
    return "partly predicts" if added > 0 else "does not predict"


def _explained(summary: Mapping[str, Any]) -> str:
    """Compare the measures of pairs that predict the size of an effect."""
    phi, random = summary["phi_correlation"], summary["random_phi_correlation"]
    edges_found = summary["edges"]
    enough = edges_found >= _LEAST_EDGES
    aucs = [(n, summary[f"{n}_auc"]) for n in ("phi", "virtual") if enough]
    edges = ", ".join(f"{n} {v:.2f}" for n, v in aucs if v is not None)
    virtual = summary["virtual_correlation"]
    weights = "" if virtual is None else f", with the virtual weight {virtual:.2f}"
    control = "" if random is None else f" (random directions: {random:.2f})"
    auc = f"; AUC of the {edges_found:,} edges among candidates: {edges}" if edges else ""
    if not enough and edges_found:
        auc = f"; no AUC of edges, since fewer than {_LEAST_EDGES} were found"
    return f"The size of an effect has a rank correlation of {phi:.2f} with co-activation{control}{weights}{auc}."
