"""Columns of a table on a terminal: a score and its controls are printed together, or not at all."""

import re
from collections.abc import Mapping, Sequence

__all__ = ["fitting", "with_controls"]

# What marks a column as a control of the column whose name it extends.
_AFTER = re.compile(
    r"(null|random|other|control|floor|permuted|shuffled|expected|halves|swapped|by_chance|"
    r"within_documents)([_ ](mean|low|high|limits))?"
)
_BEFORE = re.compile(r"(token_|document_)*null_")

# Characters between two columns.
_GAP = 2


def with_controls(
    names: Sequence[str], controls: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Return each score with its controls, by the name of the score.

    A column is a control of ``kl`` if it is named ``kl_random``, ``null_kl`` or ``token_null_kl``:
    the name of the score, and a word such as null, random, other, floor or permuted.

    Parameters
    ----------
    names
        Names of the columns.
    controls
        Controls whose names do not follow this rule, by the name of their score.

    Examples
    --------
    >>> with_controls(["sae", "kl", "n", "kl_random", "p"], {"kl": ["p"]})
    {'sae': (), 'kl': ('kl_random', 'p'), 'n': ()}
    """
    owner = {
        control: score for score in names for control in controls.get(score, ()) if control in names
    }
    for name in sorted(names, key=len, reverse=True):  # the longest name that a control extends
        for control in names:
            if control != name and control not in owner and _extends(control, name):
                owner[control] = name
    for control, score in owner.items():
        while score in owner:  # a control of a control belongs to the score
            score = owner[score]
        owner[control] = score
    return {
        name: tuple(one for one in names if owner.get(one) == name)
        for name in names
        if name not in owner
    }


def fitting(
    groups: Mapping[str, Sequence[str]], words: Mapping[str, int], *, width: int
) -> list[str]:
    """Return the columns that fit, in order: the first, then scores with controls, then others.

    Parameters
    ----------
    groups
        Result of ``with_controls``.
    words
        Least width of each column.
    width
        Width of the terminal.

    Returns
    -------
    list of str
        All columns, if they fit, in the order of the table. Otherwise each control follows its
        score. Scores with controls are selected until one does not fit, then other columns until
        one does not fit. A score is not selected without its controls, unless nothing else is.

    Examples
    --------
    >>> groups = {"sae": (), "tokens": (), "kl": ("kl_random",)}
    >>> words = {"sae": 12, "tokens": 8, "kl": 6, "kl_random": 9}
    >>> fitting(groups, words, width=35)
    ['sae', 'kl', 'kl_random']
    """
    first, *others = groups
    if _width(words, words) <= width:
        return list(words)
    chosen = {first: (first, *groups[first])}
    if _width(chosen[first], words) > width:
        return [first, *_until(groups[first], words, width=width, taken=[first])]
    for scored in (True, False):
        for name in others:
            if bool(groups[name]) == scored:
                together = (name, *groups[name])
                taken = [one for each in chosen.values() for one in each]
                if _width([*taken, *together], words) > width:
                    break
                chosen[name] = together
    if len(chosen) == 1 and others:  # no group fits: the first score with the controls that fit
        name = next((one for one in others if groups[one]), others[0])
        taken = list(chosen[first])
        chosen[name] = tuple(_until((name, *groups[name]), words, width=width, taken=taken))
    return [one for name in groups for one in chosen.get(name, ())]


def _extends(control: str, score: str) -> bool:
    """Return whether a name is that of a score and a word for a control."""
    if control.startswith((f"{score}_", f"{score} ")):
        return _AFTER.fullmatch(control[len(score) + 1 :]) is not None
    before = control.removesuffix(score)
    return before != control and _BEFORE.fullmatch(before) is not None


def _until(
    names: Sequence[str], words: Mapping[str, int], *, width: int, taken: Sequence[str]
) -> list[str]:
    """Return the first names that fit after those taken."""
    found: list[str] = []
    for name in names:
        if _width([*taken, *found, name], words) > width:
            break
        found.append(name)
    return found


def _width(names: "Sequence[str] | Mapping[str, int]", words: Mapping[str, int]) -> int:
    return sum(words[name] for name in names) + _GAP * (len(names) - 1)
