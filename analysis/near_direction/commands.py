"""The command `atlas directions`."""

from analysis.near_direction.settings import DirectionSettings
from atlas.cli.study_command import study_command

__all__ = ["directions"]

directions = study_command(
    "directions",
    "analysis.near_direction.study:nearest_directions",
    DirectionSettings,
    kind="near_direction",
    help="Find the features with the nearest decoder directions.\n\nThe search is within each SAE and across SAEs."
    "\n\nAll pairs are compared. Random directions of matched covariance are the null. The results "
    "are edges NEAR_DIRECTION.\n\n\b\nExample:\n  atlas directions tiny-a-l1-s0 tiny-a-l1-s1",
)
