"""Columns of a table on a terminal: keys always, and a score with its controls or not at all."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["distinguishing", "fitting", "narrowed", "with_controls"]

# What marks a column as a control of the column whose name it extends.
_AFTER = re.compile(
    r"(null|random|other|control|floor|permuted|shuffled|expected|halves|swapped|by_chance|"
    r"within_documents)([_ ](mean|low|high|limits))?"
)
_BEFORE = re.compile(r"(token_|document_)*null_")

# The lower limit of an interval; the name of the upper one ends in ``high``.
_LOW = re.compile(r"(^|[_ ])low$")

# Characters between two columns.
_GAP = 2

# Least characters of a key that is broken.
_NARROWEST = 8


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
        Controls whose names do not follow this rule, by the name of their score. A score that is
        named here is no control of another.

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
            named = control in owner or control in controls
            if control != name and not named and _extends(control, name):
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


def distinguishing(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Return the first columns of text without which two rows have the same name.

    Parameters
    ----------
    rows
        Rows of a table.
    names
        Names of the columns.

    Returns
    -------
    list of str
        The first column, and each column of text that distinguishes rows which the columns
        before it do not.

    Examples
    --------
    >>> rows = [{"a": "x", "of": "y", "measure": one, "value": 0.5} for one in ("cka", "rsa")]
    >>> distinguishing(rows, ["a", "of", "measure", "value"])
    ['a', 'measure']
    """
    chosen: list[str] = []
    found = 0
    for name in names:
        if chosen and not any(isinstance(row.get(name), str) for row in rows):
            continue
        # Lists and nodes, which a query may return, have no hash.
        different = len({tuple(str(row.get(one)) for one in (*chosen, name)) for row in rows})
        if not chosen or different > found:
            chosen, found = [*chosen, name], different
    return chosen


def fitting(
    groups: Mapping[str, Sequence[str]],
    words: Mapping[str, int],
    *,
    width: int,
    keys: Sequence[str] = (),
) -> list[str]:
    """Return the columns that fit, in order: the keys, then scores with controls, then others.

    Parameters
    ----------
    groups
        Result of ``with_controls``.
    words
        Least width of each column.
    width
        Width of the terminal.
    keys
        Columns that are never omitted, unless they alone are wider than the terminal; the first
        column is always one of them.

    Returns
    -------
    list of str
        All columns, if they fit, in the order of the table. Otherwise each control follows its
        score. After the keys, scores with controls are selected until one does not fit, then other
        columns until one does not fit. Only the first score may be without some of its controls, and
        without all if nothing else fits. Both limits of an interval, such as ``low`` and ``high``, are
        selected or neither.

    Examples
    --------
    >>> groups = {"sae": (), "tokens": (), "kl": ("kl_random",)}
    >>> words = {"sae": 12, "tokens": 8, "kl": 6, "kl_random": 9}
    >>> fitting(groups, words, width=35)
    ['sae', 'kl', 'kl_random']
    >>> fitting(groups, words, width=22, keys=["tokens"])
    ['sae', 'tokens']
    >>> groups = {"sae": (), "mean": (), "low": (), "high": ()}
    >>> fitting(groups, {"sae": 9, "mean": 5, "low": 5, "high": 5}, width=28)
    ['sae', 'mean']
    """
    if _width(words, words) <= width:
        return list(words)
    first = next(iter(groups))
    # A control is no key: it is printed with its score.
    named = [name for name in groups if name == first or name in keys]
    named = [first, *_until(named[1:], words, width=width, taken=[first])]
    taken = [*named]
    chosen: dict[str, tuple[str, ...]] = {}
    for name in named:
        own = _until(groups[name], words, width=width, taken=taken)
        taken += own
        chosen[name] = (name, *own)
    others = [name for name in groups if name not in chosen]
    scores = [name for name in others if groups[name]]
    for names in (scores, [name for name in others if not groups[name]]):
        for unit in _units(names):
            name = unit[0]
            together: Sequence[str] = [one for each in unit for one in (each, *groups[each])]
            if _width([*taken, *together], words) > width:
                together = _until(together, words, width=width, taken=taken)
                # The first score is printed with the controls that fit.
                if name != next(iter(scores), None) or len(together) < 2:
                    break
            chosen[name] = tuple(together)
            taken += together
    if len(chosen) == len(named) and others:  # nothing else fits: a score without controls
        name = next(iter(scores), others[0])
        unit = (name,) if scores else _units(others)[0]
        chosen[name] = tuple(_until(unit, words, width=width, taken=taken))
    return [one for name in groups for one in chosen.get(name, ())]


def _units(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return names in order, each lower limit of an interval together with its upper one.

    Examples
    --------
    >>> _units(["p", "low", "n", "high", "r_low"])
    [('p',), ('low', 'high'), ('n',), ('r_low',)]
    """
    upper = {name: f"{name.removesuffix('low')}high" for name in names if _LOW.search(name)}
    found = {name: other for name, other in upper.items() if other in names}
    return [
        (name, found[name]) if name in found else (name,)
        for name in names
        if name not in found.values()
    ]


def narrowed(
    groups: Mapping[str, Sequence[str]],
    words: Mapping[str, int],
    *,
    width: int,
    keys: Sequence[str],
    least: Mapping[str, int],
) -> dict[str, int]:
    """Return widths of columns at which the keys and a score fit, if texts of keys are broken.

    A table without a score and its control has its first two other columns instead.

    Parameters
    ----------
    groups
        Result of ``with_controls``.
    words
        Least width of each column.
    width
        Width of the terminal.
    keys
        Columns that are never omitted.
    least
        Keys that may be broken, with the width of their header.

    Examples
    --------
    >>> groups = {"a": (), "b": (), "kl": ("kl_random",)}
    >>> words = {"a": 30, "b": 36, "kl": 6, "kl_random": 9}
    >>> narrowed(groups, words, width=80, keys=["a", "b"], least={"b": 1})
    {'a': 30, 'b': 29, 'kl': 6, 'kl_random': 9}
    """
    name = next((n for n in groups if groups[n] and n not in keys), "")
    others = [n for n in groups if n not in keys]
    needs = [others[:2], others[:1]]
    if name:
        needs = [[name, *groups[name]], [name, *_units(groups[name])[0]]]
    for needed in needs:
        sizes = dict(words)
        while _width([*keys, *needed], sizes) > width:
            widest = max((k for k in keys if k in least), key=sizes.__getitem__, default="")
            if not widest or sizes[widest] <= max(least[widest], _NARROWEST):
                break
            sizes[widest] -= 1
        else:
            break
    return sizes


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
    for unit in _units(names):
        if _width([*taken, *found, *unit], words) > width:
            break
        found += unit
    return found


def _width(names: "Sequence[str] | Mapping[str, int]", words: Mapping[str, int]) -> int:
    return sum(words[name] for name in names) + _GAP * (len(names) - 1)
