"""The verdict on an edit: whether it moves more features than random directions of equal norm."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["has_evidence", "verdict_of"]

#: Rows of the table ``moved`` that a verdict names.
_NAMED = 3

#: Random directions with which p can be 0.05.
_CLEAR = 19


def verdict_of(
    summary: Mapping[str, Any],
    saes: Sequence[Mapping[str, Any]],
    changes: Sequence[Mapping[str, Any]],
    *,
    draws: int,
    floors: Sequence[str],
) -> list[str]:
    """Return the sentences of a verdict.

    Parameters
    ----------
    summary
        The summary of the result.
    saes, changes
        Rows of the tables ``saes`` and ``changes``.
    draws
        Number of random directions.
    floors
        Names of the SAEs that are floors.
    """
    share = summary["reached"] / summary["tokens"] if summary["tokens"] else 0.0
    sentences = [
        f"{', '.join(summary['features'])}, {summary['edit']}: the edit reaches {summary['reached']:,} of "
        f"{summary['tokens']:,} tokens ({share:.0%}); only these are compared. "
        "A feature moves if q ≤ 0.05 and its change is larger than under every random direction."
    ]
    for row in saes:
        names = [
            f"{one['feature']} ({one['change']:+.3g})"
            for one in changes
            if one["sae"] == row["sae"] and one["moved"] and not one["edited"]
        ][:_NAMED]
        most = f" Largest changes of moved features: {', '.join(names)}." if names else ""
        floor = " (a floor)" if row["sae"] in floors else ""
        sentences.append(
            f"{row['sae']}{floor}: {row['moved']:,} of {row['features']:,} features move; under a random direction "
            f"{row['moved_by_random']:.1f}, at most {row['moved_by_random_most']:,}. {_conclusion(row, draws=draws)}{_of_single_features(row, changes)}{most}"
        )
    for one in changes:
        if one["edited"] and summary["edit"] == "ablate" and one["mean_after"] > 0:
            sentences.append(
                f"{one['feature']} has the mean {one['mean_after']:.3g} after its ablation, not 0: the SAE reads the "
                "edited activations again, and its encoder is not the inverse of its decoder."
            )
    return sentences


def _far(row: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of moved features, not edited, whose change is at least twice control_largest."""
    return sum(
        one["moved"] and not one["edited"] and abs(one["change"]) >= 2 * one["control_largest"]
        for one in changes
        if one["sae"] == row["sae"]
    )


def _of_single_features(row: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> str:
    return (
        f" {_far(row, changes):,} moved features, without edited ones, change at least twice as much as "
        "under any random direction."
    )


def _conclusion(row: Mapping[str, Any], *, draws: int) -> str:
    """Return whether the edit moves more features than random directions.

    Under the null that the edit is one more random direction, its number exceeds those of all
    draws with a probability of at most 1 / (draws + 1).
    """
    if row["moved"] <= row["moved_by_random"]:
        return (
            "So the edit moves no more features than a random direction does. The number of moved "
            "features is no evidence; single features may be."
        )
    if row["moved"] <= row["moved_by_random_most"]:
        return (
            "So the edit moves more than the mean, but not more than every random direction. The number "
            "of moved features is no evidence; single features may be."
        )
    more = "; more `draws` can give a lower p" if draws < _CLEAR else ""
    return (
        f"So the edit moves more features than each of {draws} random directions (p <= "
        f"{1 / (draws + 1):.2g}{more})."
    )


def has_evidence(row: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether an SAE changes more than under random directions, in number or in single features.

    Parameters
    ----------
    row
        Its row of the table ``saes``.
    changes
        Rows of the table ``changes``.
    """
    return row["moved"] > row["moved_by_random_most"] or _far(row, changes) > 0
