"""The command `atlas positions`."""

from analysis.positions.settings import PositionSettings
from atlas.cli.study_command import study_command

__all__ = ["positions"]

positions = study_command(
    "positions",
    "analysis.positions.study:activation_by_position",
    PositionSettings,
    help="Compare activations between positions in the context.\n\nShuffled tokens are the null."
    "\n\n\b\nExample:\n  atlas positions tiny-a-l1-s0",
)
