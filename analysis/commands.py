"""The commands of the package `analysis`: one line for each."""

from typing import Any

from atlas.plugins import Room, import_function

__all__ = ["ROOM"]

#: ``module:command``, by section of ``atlas --help``.
_COMMANDS = {
    "Measure SAEs": (
        "analysis.probe.commands:probes",
        "analysis.graph.commands:stats",
        "analysis.communities.commands:communities",
        "analysis.floors.commands:floors",
        "analysis.interpretability.commands:interpretability",
        "analysis.logits.commands:logits",
        "analysis.spectra.commands:spectra",
        "analysis.topology.commands:topology",
        "analysis.feature_map.commands:map_command",
        "analysis.near_direction.commands:directions",
        "analysis.concepts.commands:concepts",
        "analysis.positions.commands:positions",
        "analysis.transcoder.commands:transcoder",
        "analysis.residual.commands:residual",
    ),
    "Compare SAEs": (
        "analysis.graph_comparison.commands:compare",
        "analysis.graph_matching.commands:counterparts",
        "analysis.similarity.commands:similarity",
        "analysis.splitting.commands:splitting",
        "analysis.concepts.subspaces.commands:concept_subspaces",
        "analysis.ground_truth.commands:truth",
    ),
    "Edit the model": (
        "analysis.effects.commands:effects",
        "analysis.steering.commands:steer",
        "analysis.state_change.commands:changes",
    ),
    "Inspect": (
        "analysis.plot_command:plot",
        "analysis.residual.report.commands:report",
    ),
}

#: Plots of studies without a command in this room.
_PLOTS = {
    "concept_ablation": "analysis.concepts.causal.plots:draw",
    "match": "analysis.match.plots:draw",
    "probe": "analysis.probe.plots:draw",
}

_sections: dict[str, tuple[Any, ...]] = {
    section: tuple(map(import_function, names)) for section, names in _COMMANDS.items()
}

ROOM = Room(
    "analysis",
    _sections,
    lambda path: (),
    _PLOTS,
)
