"""The group of probes whose scores exceed their controls most."""

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from analysis.probe.tables import GROUP
from atlas.errors import BadInput
from ingest.probe.settings import CLASSIFIERS

__all__ = ["StrongestGroup", "strongest_group"]

#: Controls of a balanced accuracy, with their names in a sentence.
_CONTROLS = {"control": "control task", "token_table": "token table"}

#: Balanced accuracy of a constant prediction.
_CHANCE = 0.5


@dataclass(frozen=True)
class StrongestGroup:
    """The probes of one SAE, site and run.

    Attributes
    ----------
    rows
        The probes of the group that have a score.
    score
        Mean balanced accuracy.
    controls
        Mean of each control, by its name in a sentence; empty if the group has none.
    others
        Number of other groups.
    """

    rows: pd.DataFrame
    score: float
    controls: dict[str, float]
    others: int

    @property
    def excess(self) -> float:
        """The score minus the highest control; minus the chance level, .5, if there is none."""
        return self.score - max(self.controls.values(), default=_CHANCE)

    @property
    def sentence(self) -> str:
        """The group, its score and its controls."""
        first = self.rows.iloc[0]
        controls = [f"{name} {value:.3f}" for name, value in self.controls.items()]
        return (
            f"Drawn: the probes of {first['sae']} from {first['site']}, run {first['run']}. Their mean balanced "
            f"accuracy is {self.score:.3f} ({', '.join(controls) or f'chance {_CHANCE}'})."
        )


def strongest_group(table: pd.DataFrame, *, floors: Collection[str] = ()) -> StrongestGroup:
    """Return the group with the largest excess of its score over its highest control.

    Groups without a control task are compared only if no group has one.

    Parameters
    ----------
    table
        The result of ``analysis.probe.tables.load``; probes of kind 'activation' are not compared.
    floors
        Names of SAEs that are selected only if there is no other.

    Raises
    ------
    BadInput
        If no probe that predicts activity has a balanced accuracy.
    """
    active = table[table["kind"].isin(CLASSIFIERS) & table["balanced_accuracy"].notna()]
    groups = [of for _, of in active.groupby(GROUP, sort=False)]
    if not groups:
        raise BadInput(
            "No selected probe that predicts activity has a balanced accuracy, so there is nothing to plot."
        )
    found = []
    for rows in groups:
        means = {text: float(rows[name].mean()) for name, text in _CONTROLS.items()}
        known = {text: mean for text, mean in means.items() if mean == mean}
        score = float(rows["balanced_accuracy"].mean())
        found.append(StrongestGroup(rows, score, known, len(groups) - 1))
    found = [one for one in found if one.rows["sae"].iloc[0] not in floors] or found
    # A split by token id has no control task, no verdicts, and a token table of .5 by construction.
    found = [one for one in found if _CONTROLS["control"] in one.controls] or found
    return max(found, key=lambda one: one.excess)  # the first of equal ones
