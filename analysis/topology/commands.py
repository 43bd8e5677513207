"""Command `atlas topology`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from analysis.topology.settings import TopologySettings
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo
from atlas.cli.shared_options import PLOT_FILES
from atlas.cli.study_command import Writer, study_command
from atlas.errors import BadInput
from atlas.studies.results import Results

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


def prepare(
    outs: Sequence[Path], saes: Sequence[str], *, graphml: Path | None
) -> Callable[[Results], list[str]]:
    """Check the paths, and return a function that draws one SAE and writes its Mapper graph."""
    from analysis.plot_style import plot_writer
    from analysis.topology.graphml import write_mapper_graph

    if len(saes) != 1:
        raise BadInput(
            f"--out and --graphml are about one SAE, and {len(saes)} were named; name one."
        )
    draw = plot_writer(outs) if outs else None

    def write(results: Results) -> list[str]:
        drawn = draw(results) if draw else []
        return drawn + ([str(write_mapper_graph(results[0], graphml))] if graphml else [])

    return write


def report(results: Results, saes: Sequence[str]) -> dict[str, Any]:
    """Return the summary of each SAE."""
    return {"topology": results.rows}


def show(found: Mapping[str, Any]) -> None:
    """Print the summary."""
    rows = found["topology"]
    floor = [name for name in ("role", "floor_of") if any(name in row for row in rows)]
    echo()
    print_table(rows, columns=[*_COLUMNS, *floor], turned=True)


topology = study_command(
    "topology",
    "analysis.topology.study:measure_topology",
    TopologySettings,
    help="Test decoder directions for clusters, loops and voids."
    "\n\nPersistent homology and Mapper graphs are compared with isotropic directions, Gaussian "
    "directions of equal covariance, and permuted columns. Needs the extra `topology`: "
    "pip install 'feature-atlas[topology]'."
    "\n\n\b\nExamples:\n  atlas topology --all"
    "\n  atlas topology tiny-a-l1-s0 --out topology.html --graphml mapper.graphml",
    writer=Writer(
        f"Draw diagrams and Mapper graph of one SAE: {PLOT_FILES}",
        "analysis.topology.commands:prepare",
        (
            click.option(
                "--graphml",
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE",
                help="Write the Mapper graph of one SAE as GraphML.",
            ),
        ),
    ),
    report="analysis.topology.commands:report",
    show="analysis.topology.commands:show",
)
