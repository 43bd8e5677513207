"""The command `atlas positions`."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.positions.settings import PositionSettings
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo
from atlas.cli.study_command import study_command

__all__ = ["positions", "print_positions"]

positions = study_command(
    "positions",
    "analysis.positions.study:activation_by_position",
    PositionSettings,
    help="Compare activations between positions in the context.\n\nShuffled tokens are the null."
    "\n\n\b\nExample:\n  atlas positions tiny-a-l1-s0",
    show="analysis.positions.commands:print_positions",
)


def print_positions(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the table by position of each SAE, with the 95% ranges of the null."""
    for row in rows:
        floor = f" (floor of {row['floor_of']})" if row.get("floor_of") else ""
        echo()
        print_table(
            [_line(one) for one in row["listed"]],
            controls={"L0": ("L0 p",), "activation": ("activation p",)},
            title=f"{row['sae']}{floor}: L0 and mean activation, 95% ranges of shuffled tokens",
        )


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {
        "positions": f"{row['first']}"
        if row["first"] == row["last"]
        else f"{row['first']} to {row['last']}",
        "tokens": row["tokens"],
    }
    for name, label in (("l0", "L0"), ("activation", "activation")):
        low, high = row[f"{name}_null_low"], row[f"{name}_null_high"]
        shuffled = None if low is None else f"{low:.4g} to {high:.4g}"
        line |= {label: row[name], f"{label} shuffled": shuffled, f"{label} p": row[f"{name}_p"]}
    return line
