"""The command `atlas truth`."""

from analysis.ground_truth.settings import GroundTruthSettings
from atlas.cli.study_command import study_command

__all__ = ["truth"]

truth = study_command(
    "truth",
    "analysis.ground_truth.study:compare_with_truth",
    GroundTruthSettings,
    kind="ground_truth",
    help="Compare SAEs of a synthetic model with its true features.\n\nDirections, co-activation edges and parents are compared."
    "\n\n`atlas synthetic` saves such a model; ingest its SAE `truth` with the others."
    "\n\n\b\nExample:\n  atlas truth --atlas synth.atlas",
    every=False,
    columns=(
        "sae",
        "live",
        "recovered",
        "f1",
        "chance_f1",
        "mean_cosine",
        "chance_mean_cosine",
        "activity_f1",
        "edge_precision",
        "edge_chance",
        "edge_recall",
        "parent_precision",
        "parent_chance",
        "parent_recall",
    ),
    controls={
        "f1": ("chance_f1",),
        "mean_cosine": ("chance_mean_cosine",),
        "edge_precision": ("edge_chance",),
        "parent_precision": ("parent_chance",),
    },
)
