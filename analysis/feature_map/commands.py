"""The command `atlas feature-map`: compute, draw and export maps of features."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.feature_map.settings import MapSettings
from atlas.cli.study_command import Writer, study_command
from atlas.studies.results import Results

if TYPE_CHECKING:
    from analysis.feature_map.panels import Colour, Method

__all__ = ["map_command"]

_COLUMNS = (
    "saes",
    "points",
    "dead",
    "trustworthiness",
    "overlap",
    "chance",
    "pca_overlap",
    "seeds_overlap",
    "partner_near",
    "partner_chance",
)
_CONTROLS = {
    "overlap": ("chance", "pca_overlap", "seeds_overlap"),
    "partner_near": ("partner_chance",),
}

#: Suffix of the export of coordinates and neighbours.
_EXPORT = ".parquet"


def prepare(
    outs: Sequence[Path], saes: Sequence[str], *, method: "Method", colour: "Colour | None"
) -> Callable[[Results], list[str]]:
    """Check the paths, and return a function that draws and exports maps."""
    _check_outs(outs)
    return lambda results: _write(results, outs, method=method, colour=colour)


def _check_outs(outs: Sequence[Path]) -> None:
    """Check the output files before any computation."""
    if not outs:
        return
    from analysis.plot_style import FORMATS, check_path
    from atlas.errors import BadInput

    for out in outs:
        if out.suffix.lower() not in (*FORMATS, _EXPORT):
            raise BadInput(
                f"Cannot write a map to {out.name!r}: the name must end in {', '.join((*FORMATS, _EXPORT))}."
            )
        check_path(out if out.suffix.lower() in FORMATS else out.with_suffix(".html"))


def _write(
    results: Results, outs: Sequence[Path], *, method: "Method", colour: "Colour | None"
) -> list[str]:
    """Write the drawings and exports; return their paths."""
    if not outs:
        return []
    from analysis.feature_map.page import save_page
    from analysis.feature_map.panels import panels_of
    from analysis.feature_map.plots import draw_panels
    from analysis.plot_style import save

    panels = []
    if any(out.suffix.lower() != _EXPORT for out in outs):
        panels = panels_of(results, method=method, colour=colour)
    for out in outs:
        if out.suffix.lower() == _EXPORT:
            _export(results, out)
        elif out.suffix.lower() == ".html":
            save_page(panels, out)
        else:
            save(draw_panels(panels), out)
    return [str(out) for out in outs]


def _export(results: Results, path: Path) -> None:
    """Write the points of all maps, with their nearest features, as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from atlas.disk.atomic_files import atomic_file

    tables = [
        one.table("points").append_column(
            "map", pa.array([one.name] * one.table("points").num_rows, pa.string())
        )
        for one in results
    ]
    with atomic_file(path) as temporary:
        pq.write_table(pa.concat_tables(tables), temporary)


map_command = study_command(
    "feature-map",
    "analysis.feature_map.study:map_features",
    MapSettings,
    kind="feature_map",
    help="Map features in two dimensions by UMAP and PCA.\n\nThe quality of the map is measured."
    "\n\nThe coordinates are stored as properties of features. Two matched SAEs are drawn side by "
    "side with partners in one colour; --layout joint computes one map of both."
    "\n\n\b\nExamples:\n  atlas feature-map tiny-a-l1-s0 --out map.html"
    "\n  atlas feature-map tiny-a-l1-s0 tiny-a-l1-s1 --out side-by-side.html"
    "\n  atlas feature-map tiny-a-l1-s0 tiny-a-l1-s1 --layout joint --out joint.html --out map.parquet"
    "\n  atlas feature-map tiny-a-l1-s0 --space activation",
    columns=_COLUMNS,
    controls=_CONTROLS,
    writer=Writer(
        "Draw the maps next to each other: .html (interactive, works offline), .png or .svg; or "
        "export coordinates and nearest features: .parquet. Repeat for several files.",
        "analysis.feature_map.commands:prepare",
        (
            click.option(
                "--draw",
                "method",
                default="umap",
                show_default=True,
                type=click.Choice(["umap", "pca"]),
                help="With --out: coordinates to draw.",
            ),
            click.option(
                "--colour",
                type=click.Choice(["frequency", "community", "sae", "match"]),
                help="With --out: property that the colours show. [default: the match of two matched SAEs, the SAE "
                "on a joint map, otherwise the frequency]",
            ),
        ),
    ),
)
