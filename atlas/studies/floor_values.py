"""Sentences of a verdict that give the value of a number for the floors of an SAE."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from atlas.studies.floors import is_floor, of_replaced, replaced_by_floors, role_shown
from atlas.studies.results import Result, sentences_of
from atlas.studies.study import Study, other_settings

__all__ = ["add_floor_values", "no_floor_is_stated"]

_NO_FLOOR = "No floor is compared: "


def add_floor_values(
    study: Study, results: Sequence[Result], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[tuple[str, ...], Result, Result]]:
    """Add the values of floors to the verdicts of trained SAEs.

    Parameters
    ----------
    study
        Its ``floor_values`` name the numbers, and ``needs_floors`` whether their absence is stated.
    results
        Results of the study, those of floors included.
    rows
        Rows of the table SAE; none if the atlas has no floor.

    Returns
    -------
    The names of each floor, or of its pair, whose result has other settings, with the result of the
    trained SAE and that of the floor.
    """
    others: list[tuple[tuple[str, ...], Result, Result]] = []
    by_name = {str(row["name"]): row for row in rows}
    floors = {name for name, row in by_name.items() if is_floor(row)}
    for result in results if study.floor_values else ():
        if not floors.intersection(result.saes):
            first_only = study.floors == "first"
            wanted = list(replaced_by_floors(rows, result.saes, first_only=first_only))
            by_saes = {tuple(one.saes): one for one in results}
            found = list(of_replaced(wanted, by_saes, any_order=study.sorted_pairs))
            sentences = list(_sentences(study, result, found, by_name))
            others += [(names, result, x) for names, x in found if x.settings != result.settings]
            if not sentences and study.needs_floors and _known(result, study):
                sentences = [_missing(result, wanted)]
            if study.floor_sentence:  # it repeats the numbers of the first text in their order
                result.verdict = (*result.verdict[:1], *sentences, *result.verdict[1:])
            else:
                result.verdict = _with_control(result.verdict, sentences)
    return others


def no_floor_is_stated(result: Result) -> bool:
    """Return whether a verdict states that no floor is compared."""
    return any(text.startswith(_NO_FLOOR) for text in result.verdict)


def _with_control(verdict: Sequence[str], controls: Sequence[str]) -> tuple[str, ...]:
    """Insert sentences after the first one, since a terminal prints the first three."""
    if not verdict or not controls:
        return (*verdict, *controls)
    first, *more = sentences_of(verdict[0])
    return (first, *controls, *([" ".join(more)] if more else []), *verdict[1:])


def _known(result: Result, study: Study) -> bool:
    return any(result.summary.get(name) is not None for name in study.floor_values)


def _sentences(
    study: Study,
    result: Result,
    found: Sequence[tuple[tuple[str, ...], Result]],
    by_name: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Yield a sentence for each number that the result and a floor have.

    With ``floor_sentence``, yield one for each floor that has all numbers, if there is one.
    """
    if study.floor_sentence:
        complete = [
            (names, other)
            for names, other in found
            if all(other.summary.get(key) is not None for key in study.floor_values)
        ]
        for names, other in complete:
            which = _replaced(result.saes, names, by_name)
            numbers = study.floor_sentence.format(**other.summary) + _settings(result, other)
            yield f"{which[0].upper()}{which[1:]}: {numbers}."
        if complete:
            return
    for key, words in study.floor_values.items():
        own = result.summary.get(key)
        values = [
            f"{_number(other[key])} {_replaced(result.saes, names, by_name)}"
            + _settings(result, other)
            for names, other in found
            if other.summary.get(key) is not None
        ]
        if own is not None and values:
            yield f"{words} is {_number(own)}; it is {', and '.join(values)}."


def _settings(result: Result, other: Result) -> str:
    changed = other_settings(other.settings, result.settings, "not")
    return f", with {changed}" if changed else ""


def _replaced(
    saes: Sequence[str], names: Sequence[str], by_name: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return which floors a value is of, and which SAEs of a pair they replace."""
    changed = [(sae, name) for sae, name in zip(saes, names, strict=True) if sae != name]
    floors = [f"{name} ({role_shown(by_name[name])})" for _, name in changed]
    if len(saes) == 1:
        return f"for the floor {floors[0]}"
    pairs = [f"{floor} instead of {sae}" for floor, (sae, _) in zip(floors, changed, strict=True)]
    return f"with the floor{'s' if len(pairs) > 1 else ''} {' and '.join(pairs)}"


def _missing(result: Result, wanted: Sequence[tuple[str, ...]]) -> str:
    """State that no floor is compared, and whether the atlas has one."""
    if not wanted:
        return f"{_NO_FLOOR}the atlas has no floor of {' or '.join(result.saes)}."
    floors = sorted({name for names in wanted for name in names} - set(result.saes))
    return f"{_NO_FLOOR}the atlas has no such result of {' or '.join(floors)}."


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
