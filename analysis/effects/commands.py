"""The command `atlas effects`, which measures what features do."""

import shlex
from typing import Any

import click

from analysis.effects.settings import EffectSettings
from atlas.cli.options import (
    all_option,
    chosen_settings,
    selected_names,
    settings_options,
    worker_options,
)
from atlas.cli.output.screen import prints_all
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import emit, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import atlas_option, shared_options
from atlas.plugins import StudyCommand
from atlas.studies.results import Result

__all__ = ["effects"]

_SHOWN = (
    "sae",
    "on",
    "features",
    "tokens",
    "edges",
    "sources_with_edges",
    "kl",
    "kl_random",
    "kl_other",
    "features_above_random",
    "additivity_targets",
    "joint_kl_ratio",
)

#: Edges on a screen without --rows, and their columns.
_EDGES = 5
_OF_EDGES = ("source", "target", "mean", "low", "high", "random", "other", "q")


@click.command(cls=StudyCommand, of_feature="changes")
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@all_option
@click.option(
    "--on",
    "on",
    multiple=True,
    metavar="SAE",
    help="SAE at a later site whose features are targets; repeat for several. [default: all of the atlas "
    "that were trained]",
)
@settings_options(EffectSettings)
@click.option(
    "--model",
    metavar="MODEL",
    help="The model by name or folder. [default: the stored source]",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@worker_options
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@atlas_option
@shared_options
def effects(saes: tuple[str, ...], on: tuple[str, ...], **options: Any) -> None:
    """Measure what changes when a feature is ablated.

    Each feature is ablated at tokens where it is active.

    Measured are the change of the loss, KL, and the change of the features of SAEs at later sites,
    summed over the token and later ones. Random directions of equal norm and other active features are
    the controls. The results are properties effect_* of features and edges AFFECTS. For one
    feature: `atlas changes SAE/INDEX`.

    \b
    Examples:
      atlas effects tiny-a-l0-s0
      atlas effects tiny-a-l0-s0 --on tiny-a-l1-s0 --on tiny-a-l1-s1
      atlas effects tiny-a-l0-s0 --features 100 --json
    """
    from analysis.effects.edges import strongest_edges
    from analysis.effects.study import measure_effects

    results = measure_effects(
        folder_of(which_atlas(options["where"])),
        selected_names(saes, every=options["every"]),
        on=on or None,
        settings=EffectSettings(**chosen_settings(EffectSettings, options)),
        **{name: options[name] for name in ("model", "device", "replace", "workers", "ray")},
        progress=make_progress(quiet=options["quiet"]),
    )

    def show() -> None:
        print_verdict(results)
        for one in results:
            _print_edges(one, all_rows=prints_all())
        floor = ["role"] if any("role" in row for row in results.rows) else []
        shown = [
            name for name in _SHOWN[1:] if any(row[name] not in (None, "") for row in results.rows)
        ]
        print_table(results.rows, columns=[_SHOWN[0], *floor, *shown])

    rows = [
        {**one.summary, "strongest_edges": strongest_edges(one.table("AFFECTS"))} for one in results
    ]
    emit(rows, as_json=options["as_json"], show=show)


def _print_edges(result: Result, *, all_rows: bool) -> None:
    """Print the strongest edges of a result, with their controls."""
    from analysis.effects.edges import strongest_edges

    edges = strongest_edges(result.table("AFFECTS"))
    if not edges:
        return
    number = len(edges) if all_rows else _EDGES
    print_table(
        [{name: edge[name] for name in _OF_EDGES} for edge in edges[:number]],
        title=f"Strongest effects of {result['sae']}",
        controls={"mean": ("low", "high", "random", "other", "q")},
        unbroken=("target",),
    )
    print_text(
        "mean: change of the target's activation, summed over the ablated token and later ones. low, high: its 95% "
        "interval. random: size of this sum for random directions. other: this sum for other active features."
    )
    if len(edges) > number:
        command = f"atlas query strongest_effects --sae {shlex.quote(result['sae'])}"
        print_text(f"{number} of {len(edges):,} edges; --rows or `{command}` has more.", err=True)
