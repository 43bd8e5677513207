"""The commands of this room: `atlas probes` and `atlas plot`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from analysis.communities.commands import communities, plot_communities
from analysis.graph.commands import plot_graphs, stats
from analysis.graph_comparison.commands import compare
from analysis.graph_matching.commands import counterparts
from analysis.positions.settings import PositionSettings
from analysis.residual.commands import residual
from analysis.residual.report.commands import report
from analysis.transcoder.commands import transcoder
from atlas.cli.output import (
    atlas_option,
    echo,
    emit,
    make_progress,
    print_table,
    shared_options,
    which_atlas,
)
from atlas.cli.study_command import study_command
from atlas.plugins import Room

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ROOM"]

# So many tables in the source's form are printed one below the other; more are asked for singly.
_AT_MOST = 3


@click.command()
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@click.option("--site", "sites", multiple=True, metavar="HOOK",
              help="Only probes from this site, such as hook_embed; several may be named.")  # fmt: skip
@click.option("--run", metavar="RUN",
              help="Only this run, or those that begin so: 'document', 'type/active'.")  # fmt: skip
@click.option("--by", type=click.Choice(["frequency", "max_activation", "layer", "first-layer", "sweep"]),
              help="Break the numbers down: by fifths of the features' frequency or highest "
              "activation, by the layer the SAE reads, by the first layer that predicts a "
              "feature as well as any, or by layer and site.")  # fmt: skip
@click.option("--delta", default=0.02, show_default=True, type=click.FloatRange(0, 1),
              help="With --by first-layer: how near its best score is near enough.")  # fmt: skip
@atlas_option
@shared_options
def probes(
    saes: tuple[str, ...],
    sites: tuple[str, ...],
    run: str | None,
    by: Literal["frequency", "max_activation", "layer", "first-layer", "sweep"] | None,
    delta: float,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Say how well linear probes tell where features are active, beside ceilings and controls.

    Scores are on validation tokens. Accuracy at natural prevalence is high for any rare
    feature; for balanced accuracy chance is 0.5. Without --by, up to three groups (an SAE,
    a site and a run) are also shown in full, with the ladder of accuracies.

    \b
    Examples:
      atlas probes
      atlas probes tiny-a-l1-s0 --site hook_embed --run document
      atlas probes --by frequency
      atlas probes --by sweep --json
    """
    from analysis.probe import tables as numbers
    from atlas.errors import BadInput

    table = _loaded(where, saes, sites, run, quiet=quiet)
    if by is None:
        rows = numbers.summary(table)
        emit(rows, as_json=as_json, show=lambda: _show_summary(rows, quiet=quiet))
        return
    if by == "first-layer":
        rows = numbers.first_layer_histogram(numbers.first_layers(table, delta=delta))
    elif by == "sweep":
        rows = numbers.sweep(table)
    else:
        rows = numbers.breakdown(table, by=by)
    if not rows:
        raise BadInput(
            f"--by {by} compares sites, and no SAE here has scores from two sites or more in one run; "
            "run `atlas probe SAE --from all`."
            if by in ("first-layer", "sweep")
            else "No probe here is of kind 'active', so no verdict can be counted; "
            "run `atlas probe SAE --from hook_embed`."
        )
    emit(rows, as_json=as_json, show=lambda: print_table(rows))


@click.group()
@shared_options
@click.pass_context
def plot(ctx: click.Context, as_json: bool, quiet: bool) -> None:
    """Draw pictures of what an atlas holds, as PNG, SVG or interactive HTML.

    \b
    Example:
      atlas plot probes --out probes.html --out probes.png
    """
    # So that `atlas plot --json probes` means the same as `atlas plot probes --json`.
    given = {"as_json": as_json, "quiet": quiet}
    ctx.default_map = dict.fromkeys(plot.commands, given)


@plot.command("probes")
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@click.option("--site", "sites", multiple=True, metavar="HOOK",
              help="Draw probes from this site; several may be named. [default: each SAE's first "
              "one, the embedding if it was probed; the sweep has all]")  # fmt: skip
@click.option("--run", metavar="RUN",
              help="Only this run, or those that begin so: 'document', 'type/active'.")  # fmt: skip
@click.option("--kind", default="page", show_default=True,
              type=click.Choice(["page", "distribution", "scatter", "ladder", "splits", "sweep"]),
              help="One picture, or all of them on a page.")  # fmt: skip
@click.option("--out", "-o", "outs", multiple=True, default=("probes.html",), show_default=True,
              type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Where to: .html (needs no network), .png or .svg; several may be named.")  # fmt: skip
@atlas_option
@shared_options
def plot_probes(
    saes: tuple[str, ...],
    sites: tuple[str, ...],
    run: str | None,
    kind: str,
    outs: tuple[Path, ...],
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Draw probes: distribution of scores, score against token ceiling, ladder, box plots, sweep.

    In HTML, points tell their feature, drag moves a scatter, Shift and the wheel zoom it,
    and a click on a verdict shows its features alone.

    \b
    Examples:
      atlas plot probes
      atlas plot probes tiny-a-l1-s0 --run document --out probes.html --out probes.png
      atlas plot probes --kind sweep --out sweep.svg
    """
    from analysis.plot_style import check_path, save
    from analysis.probe.plots import draw

    for out in outs:
        check_path(out)
    table = _loaded(where, saes, sites, run, quiet=quiet)
    picture = draw(table, kind=kind, every_site=bool(sites))
    written = [str(save(picture, out)) for out in outs]
    if not quiet and not sites and kind != "sweep" and table["site"].nunique() > 1:
        told = ", ".join(dict.fromkeys(table["site"]))
        echo(f"Probed from {told}; name those to draw with --site.", err=True)
    emit({"written": written}, as_json=as_json, show=lambda: echo("\n".join(written)))


def _loaded(
    where: str | None,
    saes: tuple[str, ...],
    sites: tuple[str, ...],
    run: str | None,
    *,
    quiet: bool,
) -> "pd.DataFrame":
    """Return the probes asked for; none at all is a mistake of whoever asked."""
    from analysis.probe.tables import load
    from atlas.api import Atlas
    from atlas.errors import BadInput

    with Atlas.open(which_atlas(where), progress=make_progress(quiet=quiet)) as atlas:
        table = load(atlas, saes=saes, sites=sites, run=run)
        if not len(table):
            name = saes[0] if len(saes) == 1 else "SAE"
            of = f" of {', '.join(saes)}" if saes else ""
            raise BadInput(
                f"No probe{of} is in {atlas.url}; run `atlas probe {name} --from hook_embed`."
            )
    return table


def _show_summary(rows: list[dict[str, Any]], *, quiet: bool) -> None:
    for kind in ("active", "activation"):
        print_table([_overview(row) for row in rows if row["kind"] == kind])
    if len(rows) <= _AT_MOST:
        for row in rows:
            _show_in_full(row)
    elif not quiet:
        echo("For one group in full, name its SAE, --site and --run.", err=True)


def _overview(row: dict[str, Any]) -> dict[str, Any]:
    """Return a group on one line: means of the most important scores, and the verdicts."""
    shown = {
        "active": ("accuracy", "balanced_accuracy", "token_table", "token_ceiling", "control",
                   "selectivity", "shuffled"),
        "activation": ("r2", "r2_token_table", "r2_token_ceiling", "r2_active",
                       "r2_active_token_table", "r2_active_token_ceiling"),
    }[row["kind"]]  # fmt: skip
    named = {name: row[name] for name in ("sae", "site", "run", "probes")}
    means = {name: row["scores"][name]["mean"] for name in shown}
    verdicts: dict[str, Any] = row.get("verdicts", {})
    return named | means | verdicts


def _show_in_full(row: dict[str, Any]) -> None:
    """Print a group as the source did: its scores, and the ladder."""
    echo()
    title = f"{row['sae']} from {row['site']}, run {row['run']}: {row['probes']:,} probes"
    print_table([{"score": n, **said} for n, said in row["scores"].items()], title=title)
    if "ladder" not in row:
        return
    echo()
    plain, balanced = (row["ladder"][name] for name in ("accuracy", "balanced_accuracy"))
    print_table([
        {"rung": one["rung"]}
        | {f"accuracy, {name}": one[name] for name in ("count", "share", "at_least_share")}
        | {f"balanced, {name}": two[name] for name in ("count", "share", "at_least_share")}
        for one, two in zip(plain, balanced, strict=True)
    ])  # fmt: skip


plot.add_command(plot_graphs)
plot.add_command(plot_communities)

positions = study_command(
    "positions", "analysis.positions.study:activation_by_position", PositionSettings,
    help="Compare activations between positions in the context, beside random orders of the tokens."
    "\n\n\b\nExample:\n  atlas positions tiny-a-l1-s0",
)  # fmt: skip

ROOM = Room(
    "analysis",
    (
        probes,
        plot,
        stats,
        communities,
        compare,
        counterparts,
        transcoder,
        residual,
        report,
        positions,
    ),
    lambda path: (),
)
