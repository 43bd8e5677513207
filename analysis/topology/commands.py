"""Command `atlas topology`."""

from pathlib import Path
from typing import Any

import click

from analysis.topology.settings import TopologySettings
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
from atlas.errors import BadInput

__all__ = ["topology"]

_COLUMNS = (
    "sae",
    "directions",
    "dimensions",
    "h0",
    "h1",
    "h2",
    "homology_p",
    "h1_longest",
    "h1_bottleneck",
    "mapper_p",
    "mapper_components",
    "mapper_loops",
    "mapper_retained",
    "mapper_stability",
)


@click.command()
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@settings_options(TopologySettings)
@click.option(
    "--out",
    "-o",
    "outs",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw diagrams and Mapper graph of one SAE: .html (works offline), .png or .svg; repeat for "
    "several files.",
)
@click.option(
    "--graphml",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the Mapper graph of one SAE as GraphML.",
)
@worker_options
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@atlas_option
@shared_options
def topology(
    saes: tuple[str, ...],
    *,
    outs: tuple[Path, ...],
    graphml: Path | None,
    replace: bool,
    workers: int,
    ray: str | None,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Test decoder directions for clusters, loops and voids.

    Persistent homology and Mapper graphs are compared with isotropic directions, Gaussian
    directions of equal covariance, and permuted columns. Needs the extra `topology`:
    pip install 'feature-atlas[topology]'.

    \b
    Examples:
      atlas topology
      atlas topology tiny-a-l1-s0 --out topology.html --graphml mapper.graphml
    """
    from analysis.plot_style import check_path, save
    from analysis.topology.graphml import write_mapper_graph
    from analysis.topology.study import measure_topology

    if (outs or graphml) and len(saes) != 1:
        raise BadInput(
            f"--out and --graphml are about one SAE, and {len(saes)} were named; name one."
        )
    for out in outs:
        check_path(out)
    results = measure_topology(
        folder_of(which_atlas(where)),
        saes or None,
        settings=TopologySettings(**chosen_settings(TopologySettings, options)),
        replace=replace,
        workers=workers,
        ray=ray,
        progress=make_progress(quiet=quiet),
    )
    written = [str(save(results[0].plot(), out)) for out in outs]
    if graphml:
        written.append(str(write_mapper_graph(results[0], graphml)))

    def show() -> None:
        echo("\n".join(results.verdict) + "\n")
        floor = [name for name in ("role", "floor_of") if any(name in row for row in results.rows)]
        print_table(results.rows, columns=[*_COLUMNS, *floor])
        for path in written:
            echo(path)

    emit({"topology": results.rows, "written": written}, as_json=as_json, show=show)
