"""The command `atlas describe`."""

from analysis.interpretability.settings import InterpretabilitySettings
from atlas.cli.study_command import study_command

__all__ = ["interpretability"]

interpretability = study_command(
    "describe",
    "analysis.interpretability.study:measure_interpretability",
    InterpretabilitySettings,
    kind="interpretability",
    help="Measure how well a few tokens describe each feature.\n\nThe measure is taken on other documents."
    "\n\nNo judge is needed. The control is the description of another feature of similar frequency."
    "\n\n\b\nExample:\n  atlas describe tiny-a-l1-s0",
)
