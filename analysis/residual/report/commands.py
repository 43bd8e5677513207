"""Command `atlas report geometry`: report on transcoders, residual SAEs and their controls."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import atlas_option, plain_options
from atlas.disk.atomic_files import atomic_file

if TYPE_CHECKING:
    from analysis.residual.report.findings import Findings

__all__ = ["report"]


@click.group()
@plain_options
@click.pass_context
def report(ctx: click.Context, as_json: bool, quiet: bool) -> None:
    """Write a report with tables, controls and figures.

    A report states its question, shows tables with controls and figures, and concludes.

    \b
    Example:
      atlas report geometry demo.atlas --out geometry.html
    """
    # So that `atlas report --json geometry` means the same as `atlas report geometry --json`.
    shared = {"as_json": as_json, "quiet": quiet}
    ctx.default_map = dict.fromkeys(report.commands, shared)


@report.command("geometry", short_help="Report what an affine map of the embedding explains.")
@click.argument("passed", required=False, metavar="[ATLAS]")
@click.option(
    "--out",
    "-o",
    default="geometry.html",
    show_default=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="HTML page to write; it needs no network and no other file.",
)
@click.option(
    "--figures",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also write the figures to this folder.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    default=("png", "svg"),
    show_default=True,
    type=click.Choice(["png", "svg", "html"]),
    help="With --figures: format of the figures; can be repeated.",
)
@click.option("--study", metavar="STUDY", help="Residual study. [default: the first]")
@click.option(
    "--from",
    "site",
    metavar="SITE",
    help="Site that is mapped and probed from. [default: the source of the study, else hook_embed]",
)
@click.option(
    "--run",
    metavar="RUN",
    help="Run of the study's probes, or the start of its name. [default: by document]",
)
@click.option(
    "--floor",
    "floors",
    multiple=True,
    metavar="MODEL",
    help="Model with random weights, as a baseline for models of its shape; can be repeated.",
)
@click.option(
    "--margin",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Smallest difference of balanced accuracy that matters; 'not harder' excludes this difference.",
)
@click.option(
    "--strata",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Number of strata by validation positives within which features are compared.",
)
@atlas_option
@plain_options
def geometry(
    passed: str | None,
    *,
    out: Path,
    figures: Path | None,
    formats: tuple[str, ...],
    study: str | None,
    site: str | None,
    run: str | None,
    floors: tuple[str, ...],
    margin: float,
    strata: int,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Report how much of a layer an affine map of the embedding explains, and if the residual is harder to predict.

    The report uses the data that the atlas has, and names the command that computes missing data.

    \b
    Examples:
      atlas report geometry demo.atlas
      atlas report geometry demo.atlas --out report.html --figures pictures --format svg
      atlas report geometry demo.atlas --floor tiny-random --json
    """
    from analysis.plot_style import check_path
    from analysis.residual.report.findings import find
    from analysis.residual.report.report import figures as draw
    from analysis.residual.report.report import html, numbers, write_figures
    from atlas.api import Atlas

    named = which_atlas(_one(passed, where))
    if check_path(out).suffix.lower() != ".html":
        raise click.BadParameter(
            f"The file is {out}; expected a name that ends in .html.", param_hint="--out"
        )
    with Atlas.open(folder_of(named), progress=make_progress(quiet=quiet)) as atlas:
        found = find(
            atlas, study=study, site=site, run=run, floors=floors, margin=margin, strata=strata
        )
    charts = draw(found)
    with atomic_file(out) as temporary:
        temporary.write_text(html(found, where=named, charts=charts), "utf-8")
    written = [str(out)]
    if figures is not None:
        written += [str(path) for path in write_figures(charts, figures, formats=formats)]
    emit(
        numbers(found) | {"written": written},
        as_json=as_json,
        show=lambda: _show(found, written),
    )


def _one(passed: str | None, where: str | None) -> str | None:
    if passed and where and passed != where:
        raise click.UsageError(f"Two atlases were input, {passed} and --atlas {where}; pass one.")
    return passed or where


def _show(found: "Findings", written: list[str]) -> None:
    if not found.verdicts:
        echo("This atlas has no residual study; run `atlas residual` to create one.")
    else:
        print_verdict([found.headline, *(f"- {v.sentence}" for v in found.verdicts)])
    rows: list[dict[str, Any]] = [
        {
            "difference": f"{d.one} − {d.other}",
            "mean": d.mean,
            "95% from": d.low,
            "to": d.high,
            "p": d.p,
            "seeds": d.seeds,
        }
        for d in found.differences
    ]
    print_table(rows)
    if found.marks_verdict:
        print_text(found.marks_verdict)
    echo("\n".join(written))
