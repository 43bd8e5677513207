"""The command `atlas map`: compute, draw and export maps of features."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.feature_map.settings import MapSettings
from atlas.cli.options import chosen_settings, settings_options, worker_options
from atlas.cli.output import (
    atlas_option,
    echo,
    emit,
    folder_of,
    make_progress,
    print_table,
    shared_options,
    which_atlas,
)

if TYPE_CHECKING:
    from analysis.feature_map.panels import Colour, Method
    from atlas.studies.results import Results

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

#: Suffix of the export of coordinates and neighbours.
_EXPORT = ".parquet"


@click.command("map")
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@settings_options(MapSettings)
@click.option(
    "--out",
    "-o",
    "outs",
    multiple=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the maps next to each other: .html (interactive, works offline), .png or .svg; or "
    "export coordinates and nearest features: .parquet. Repeat for several files.",
)
@click.option(
    "--draw",
    "method",
    default="umap",
    show_default=True,
    type=click.Choice(["umap", "pca"]),
    help="Coordinates to draw.",
)
@click.option(
    "--colour",
    type=click.Choice(["frequency", "community", "sae", "match"]),
    help="Property that the colours show. [default: the match of two matched SAEs, the SAE "
    "on a joint map, otherwise the frequency]",
)
@worker_options
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@atlas_option
@shared_options
def map_command(
    saes: tuple[str, ...],
    *,
    outs: tuple[Path, ...],
    method: "Method",
    colour: "Colour | None",
    workers: int,
    ray: str | None,
    replace: bool,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Map features in two dimensions by UMAP and PCA.

    The quality of the map is measured.

    The coordinates are stored as properties of features. Two matched SAEs are drawn side by side
    with partners in one colour; --layout joint computes one map of both.

    \b
    Examples:
      atlas map tiny-a-l1-s0 --out map.html
      atlas map tiny-a-l1-s0 tiny-a-l1-s1 --out side-by-side.html
      atlas map tiny-a-l1-s0 tiny-a-l1-s1 --layout joint --out joint.html --out map.parquet
      atlas map tiny-a-l1-s0 --space activation
    """
    from analysis.feature_map.study import map_features

    _check_outs(outs)
    results = map_features(
        folder_of(which_atlas(where)),
        saes or None,
        settings=MapSettings(**chosen_settings(MapSettings, options)),
        replace=replace,
        workers=workers,
        ray=ray,
        progress=make_progress(quiet=quiet),
    )
    written = _write(results, outs, method=method, colour=colour)

    def show() -> None:
        for sentence in results.verdict:
            echo(sentence)
        print_table(results.rows, columns=_COLUMNS)
        for path in written:
            echo(path)

    emit(
        {"maps": results.rows, "written": written} if outs else results.rows,
        as_json=as_json,
        show=show,
    )


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
    results: "Results", outs: Sequence[Path], *, method: "Method", colour: "Colour | None"
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


def _export(results: "Results", path: Path) -> None:
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
