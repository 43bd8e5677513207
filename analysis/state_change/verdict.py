"""The sentences of a study of state changes: one for each SAE, after a conclusion over all."""

from collections.abc import Mapping, Sequence
from typing import Any

from atlas.amounts import counted

__all__ = ["has_evidence", "sae_sentence", "text_shortage", "verdict"]

#: Moved features that a verdict names.
_NAMED = 3

#: Random directions with which p can be 0.05.
_CLEAR = 19

#: How each edit is named at the start of a sentence.
_VERBS = {"ablate": "Ablating", "scale": "Scaling", "clamp": "Clamping", "add": "Adding"}


def verdict(
    summary: Mapping[str, Any],
    saes: Sequence[Mapping[str, Any]],
    changes: Sequence[Mapping[str, Any]],
    *,
    edited: Sequence[Mapping[str, Any]],
    draws: int,
    requested: int | None,
    floors: Sequence[str],
) -> list[str]:
    """Return the sentences of a result.

    Parameters
    ----------
    summary, saes, changes, edited
        The summary, and rows of the tables.
    draws
        Random directions.
    requested
        Tokens of text that were requested, if contexts with the features were searched; otherwise None.
    floors
        Names of the SAEs that are floors.
    """
    found = [_over_saes(summary, saes, draws=draws, floors=floors), _of_text(summary)]
    found += [_of_edited(one, summary["edit"]) for one in edited]
    if (shortage := text_shortage(summary, requested)) is not None:
        found.append(shortage)
    found.append(
        "A feature moves if q ≤ 0.05 and its change is larger than under every random direction. Where the number "
        "of moved features is no evidence, single features can be."
    )
    for row in saes:
        floor = " (a floor)" if row["sae"] in floors else ""
        found.append(sae_sentence(row, changes, draws=draws, floor=floor))
    return found


def text_shortage(summary: Mapping[str, Any], requested: int | None) -> str | None:
    """State that the searched text has fewer tokens with the features than requested; None otherwise.

    Parameters
    ----------
    summary
        The summary.
    requested
        See ``verdict``.
    """
    if requested is None or summary["tokens"] >= requested:
        return None
    return (
        f"The contexts with {_names(summary)} hold {summary['tokens']:,} tokens, fewer than the {requested:,} "
        f"requested (`tokens`): {summary['searched']:,} tokens of text were searched; `search` sets this number."
    )


def _names(summary: Mapping[str, Any]) -> str:
    return ", ".join(summary["features"])


def _over_saes(
    summary: Mapping[str, Any],
    saes: Sequence[Mapping[str, Any]],
    *,
    draws: int,
    floors: Sequence[str],
) -> str:
    """State in which SAEs the edit moves more features than every random direction."""
    parts = []
    for what in ("SAE", "floor"):
        rows = [row for row in saes if (row["sae"] in floors) == (what == "floor")]
        if rows:
            above = [row["sae"] for row in rows if row["moved"] > row["moved_by_random_most"]]
            names = f" ({', '.join(above)})" if above else ""
            parts.append(f"{len(above)} of {counted(len(rows), what)}{names}")
    than = "a random direction" if draws == 1 else f"each of {draws} random directions"
    return (
        f"{_VERBS[summary['edit']]} {_names(summary)} moves more features than {than} of equal norm in "
        f"{' and '.join(parts)}."
    )


def _of_text(summary: Mapping[str, Any]) -> str:
    share = summary["reached"] / summary["tokens"] if summary["tokens"] else 0.0
    return (
        f"The edit changes {summary['edited_tokens']:,} of {summary['tokens']:,} tokens of text at its site, and reaches "
        f"{summary['reached']:,} ({share:.0%}) with the later ones of their contexts; only these are compared."
    )


def _of_edited(one: Mapping[str, Any], edit: str) -> str:
    """State the mean of an edited feature after the edit."""
    found = (
        f"{one['feature']} is active at {counted(one['active_tokens'], 'token')} of this text; its mean over the compared "
        f"tokens is {one['mean_before']:.3g} before and {one['mean_after']:.3g} after the edit"
    )
    if edit == "ablate" and one["mean_after"] > 0:
        found += (
            ", not 0: the SAE reads the edited activations again, and its encoder is not the inverse of its "
            "decoder"
        )
    return f"{found}."


def sae_sentence(
    row: Mapping[str, Any], changes: Sequence[Mapping[str, Any]], *, draws: int, floor: str = ""
) -> str:
    """Return the conclusion on one SAE, then its moved features of the largest change.

    Under the null that the edit is one more random direction, its number exceeds those of all
    draws with a probability of at most 1 / (draws + 1).

    Parameters
    ----------
    row
        The row of the SAE in the table ``saes``.
    changes
        Rows of the table ``changes``.
    draws
        Random directions.
    floor
        Remark behind the name of a floor.

    Examples
    --------
    >>> row = {"sae": "a", "moved": 2, "moved_by_random": 2.5, "moved_by_random_most": 3, "features": 9}
    >>> sae_sentence(row, [], draws=9)
    'a: no more features move than under a random direction (2 of 9; random directions: 2.5 on average, 3 at most); 0 of them, without edited ones, change at least twice as much as under any random direction.'
    """
    p = ""
    if row["moved"] <= row["moved_by_random"]:
        conclusion = "no more features move than under a random direction"
    elif row["moved"] <= row["moved_by_random_most"]:
        conclusion = (
            "more features move than on average, but not more than under every random direction"
        )
    else:
        more = ", and more `draws` can give a lower p" if draws < _CLEAR else ""
        conclusion = f"more features move than under each of {counted(draws, 'random direction')}"
        p = f"; p ≤ {1 / (draws + 1):.2g}{more}"
    names = [
        f"{one['feature']} ({one['change']:+.3g})"
        for one in changes
        if one["sae"] == row["sae"] and one["moved"] and not one["edited"]
    ][:_NAMED]
    most = f" Largest changes of its moved features: {', '.join(names)}." if names else ""
    far = _far(row, changes)
    return (
        f"{row['sae']}{floor}: {conclusion} ({row['moved']:,} of {row['features']:,}; random directions: "
        f"{row['moved_by_random']:.1f} on average, {row['moved_by_random_most']:,} at most{p}); {far:,} of them, without "
        f"edited ones, {'changes' if far == 1 else 'change'} at least twice as much as under any random direction.{most}"
    )


def _far(row: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of moved features, not edited, whose change is at least twice control_largest."""
    return sum(
        one["moved"] and not one["edited"] and abs(one["change"]) >= 2 * one["control_largest"]
        for one in changes
        if one["sae"] == row["sae"]
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
