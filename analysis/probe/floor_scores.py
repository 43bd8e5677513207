"""Which SAEs of a table of probes are floors, and where a floor scores higher than its SAE."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atlas.amounts import counted
from atlas.studies.floors import floors_of, is_floor, role_shown

__all__ = ["FloorMark", "floor_marks", "floor_sentences", "marked"]


@dataclass(frozen=True)
class FloorMark:
    """What a floor is compared with.

    Parameters
    ----------
    saes
        Sorted names of the trained SAEs that it is a floor of.
    role
        Its role, as tables show it.
    """

    saes: tuple[str, ...]
    role: str

    @property
    def shown(self) -> str:
        """The names of the SAEs, or the role if there is none."""
        return ", ".join(self.saes) or self.role


def floor_marks(saes: Iterable[Mapping[str, Any]]) -> dict[str, FloorMark]:
    """Return by floor what it is compared with.

    Parameters
    ----------
    saes
        Rows of the table SAE.

    Examples
    --------
    >>> floor_marks([{"name": "a"}, {"name": "b", "role": "untrained", "floor_of": "a"}])
    {'b': FloorMark(saes=('a',), role='untrained')}
    """
    rows = list(saes)
    owners: dict[str, list[str]] = {str(row["name"]): [] for row in rows if is_floor(row)}
    for row in rows if owners else ():
        for floor in floors_of(rows, str(row["name"])):
            owners[floor].append(str(row["name"]))
    roles = {str(row["name"]): role_shown(row) or "floor" for row in rows}
    return {floor: FloorMark(tuple(sorted(of)), roles[floor]) for floor, of in owners.items()}


def marked(
    rows: Sequence[Mapping[str, Any]], marks: Mapping[str, FloorMark]
) -> list[dict[str, Any]]:
    """Return rows with ``floor_of`` after ``sae``, if one of them is about a floor.

    Examples
    --------
    >>> marks = {"b": FloorMark(("a",), "untrained")}
    >>> marked([{"sae": "b", "n": 1}, {"sae": "a", "n": 2}], marks)
    [{'sae': 'b', 'floor_of': 'a', 'n': 1}, {'sae': 'a', 'floor_of': None, 'n': 2}]
    """
    if not any(row.get("sae") in marks for row in rows):
        return [dict(row) for row in rows]
    shown = {floor: mark.shown for floor, mark in marks.items()}
    return [{"sae": row["sae"], "floor_of": shown.get(row["sae"]), **row} for row in rows]


def floor_sentences(rows: Sequence[Mapping[str, Any]], marks: Mapping[str, FloorMark]) -> list[str]:
    """Return a sentence if a floor has a higher mean score than its trained SAE; else none.

    Parameters
    ----------
    rows
        Result of ``analysis.probe.tables.summary``.
    marks
        Result of ``floor_marks``.
    """
    means = {(row["sae"], row["site"], row["run"]): _mean(row) for row in rows}
    higher = []
    for (floor, site, run), score in means.items():
        for sae in marks[floor].saes if floor in marks else ():
            own = means.get((sae, site, run))
            if score is not None and own is not None and score > own:
                higher.append((score - own, floor, sae, f"{site}, {run}", score, own))
    if not higher:
        return []
    _, floor, sae, group, score, own = max(higher)
    others = len(higher) - 1
    more = f" A floor scores higher in {counted(others, 'other comparison')} too." if others else ""
    return [
        f"The floor {floor} scores {score:.3f}, the SAE {sae} {own:.3f} ({group}): a high score is no sign of "
        f"training.{more}"
    ]


def _mean(row: Mapping[str, Any]) -> float | None:
    score = "balanced_accuracy" if "ladder" in row else "r2"
    mean: float | None = row["scores"][score]["mean"]
    return mean
