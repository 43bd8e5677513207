"""The command `atlas subspaces`, which compares concepts between matched SAEs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from analysis.concepts.subspaces.settings import SubspaceSettings
from atlas.cli.completion import complete_names
from atlas.cli.options import (
    all_option,
    chosen_settings,
    selected_names,
    settings_options,
    worker_options,
)
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import PLOT_FILES, atlas_option, out_option, shared_options
from atlas.plugins import StudyCommand
from atlas.studies.results import Results

__all__ = ["concept_subspaces"]

_GRID = (
    "concept",
    "measure",
    "value",
    "q",
    "matched_q",
    "other_q",
    "null",
    "matched_null",
    "other_null",
    "pairs",
    "space",
)


#: Controls of each column, which a narrow terminal prints with it.
_CONTROLS = {"value": ("null", "matched_null", "other_null"), "q": ("matched_q", "other_q")}


@click.command("subspaces", cls=StudyCommand, kind="concept_subspaces")
@click.argument("saes", nargs=-1, metavar="[SAE SAE]...")
@all_option
@click.option(
    "--words",
    multiple=True,
    metavar="FILE",
    shell_complete=complete_names("analysis.concepts.words.files:list_names", others="file"),
    help="Labelled words, as .csv or .jsonl with columns text and label, or the name of a list of "
    "the package; can be repeated. [default: all lists of the package]",
)
@settings_options(SubspaceSettings)
@worker_options
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@out_option(f"Plot heatmaps: {PLOT_FILES}")
@atlas_option
@shared_options
def concept_subspaces(
    saes: tuple[str, ...],
    *,
    every: bool,
    words: tuple[str, ...],
    workers: int,
    ray: str | None,
    replace: bool,
    outs: tuple[Path, ...],
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare the features of concepts between matched SAEs.

    The features of a concept are those enriched on its words, chosen on half of the documents
    and confirmed on the other half. The nulls shuffle the pairing, draw random matched pairs of
    equal number and frequency, and draw pairs of other concepts. q is over all concepts and pairs.

    \b
    Examples:
      atlas subspaces tiny-a-l1-s0 tiny-a-l1-s1
      atlas subspaces --all --words kinds --out concepts.html
    """
    from analysis.concepts.subspaces.grid import concept_grid
    from analysis.concepts.subspaces.study import compare_concepts

    selected = selected_names(saes, every=every)
    if outs:
        from analysis.plot_style import check_path

        for out in outs:
            check_path(out)
    results = compare_concepts(
        folder_of(which_atlas(where)),
        selected,
        words=words,
        settings=SubspaceSettings(**chosen_settings(SubspaceSettings, options)),
        replace=replace,
        workers=workers,
        ray=ray,
        progress=make_progress(quiet=quiet),
    )
    found: dict[str, Any] = {
        "pairs": [one.summary for one in results],
        "grid": concept_grid(results),
        "refused": [
            {"a": one["a"], "b": one["b"], "concept": row["concept"], "note": row["note"]}
            for one in results
            for row in one.table("rows").to_pylist()
            if row["measure"] is None
        ],
        "verdict": results.verdict,
        "written": [],
    }
    if outs:
        from analysis.concepts.subspaces.plots import draw_heatmaps
        from analysis.plot_style import save

        picture = draw_heatmaps(results)
        found["written"] = [str(save(picture, out)) for out in outs]
    emit(found, as_json=as_json, show=lambda: _show(found, results))


def _show(found: Mapping[str, Any], results: Results) -> None:
    print_verdict(results)
    several = len({(row["a"], row["b"]) for row in found["grid"]}) > 1
    print_table(
        found["grid"],
        columns=("a", "b", *_GRID) if several else _GRID,
        controls=_CONTROLS,
        spaced=True,
    )
    for row in found["refused"]:
        print_text(f"{row['a']} and {row['b']}, {row['concept']}: {row['note']}", indent="  ")
    for path in found["written"]:
        echo(path)
