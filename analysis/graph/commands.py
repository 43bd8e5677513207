"""The commands `atlas graph-stats` and `atlas plot graphs`, on co-activation graphs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from analysis.graph.settings import GraphStatisticsSettings
from atlas.amounts import cell_text
from atlas.cli.options import (
    all_option,
    chosen_settings,
    selected_names,
    settings_options,
    worker_options,
)
from atlas.cli.output.screen import on_terminal
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import which_atlas
from atlas.cli.shared_options import (
    PLOT_FILES,
    atlas_option,
    out_option,
    plain_options,
    requested,
    shared_options,
)
from atlas.plugins import StudyCommand
from atlas.studies.results import Results

__all__ = ["plot_graphs", "stats"]

#: The rows of the table: first those of the original study, then additional statistics.
_ROWS = {
    "tokens": "tokens",
    "nodes": "nodes",
    "edges": "edges",
    "average_degree": "average degree",
    "density": "density",
    "components": "connected components",
    "largest_component": "largest component",
    "component_sizes": "component sizes (size × number)",
    "average_clustering": "average clustering",
    "clustering_over_density": "clustering over density",
    "transitivity": "transitivity",
    "isolates": "features without an edge",
    "dead": "features that are never active",
    "assortativity": "degree assortativity",
    "k_core": "largest k-core",
    "path_length": "mean path in largest component",
    "modularity_unweighted": "modularity, no weights (Leiden)",
    "communities": "communities, no weights (Leiden)",
    "degree_frequency_pearson": "degree and frequency, Pearson",
    "degree_frequency_spearman": "degree and frequency, Spearman",
    "degree_frequency_n": "degree and frequency, active features",
}


@click.command("graph-stats", cls=StudyCommand, kind="graph_statistics")
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@all_option
@settings_options(GraphStatisticsSettings)
@worker_options
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@atlas_option
@shared_options
def stats(
    saes: tuple[str, ...],
    *,
    every: bool,
    replace: bool,
    workers: int,
    ray: str | None,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare statistics of graphs with those of null graphs.

    Edges grow with tokens, so graphs are compared over equal numbers of tokens. SAEs counted
    over more tokens are cut to the smallest number, which needs their codes. The results are
    stored in the folder of the atlas.

    \b
    Examples:
      atlas graph-stats tiny-a-l1-s0 tiny-a-l1-s1
      atlas graph-stats tiny-a-l1-s0 --nulls bipartite --draws 20 --curves
      atlas graph-stats --all --nulls none --json
    """
    from analysis.graph.study import all_rows, graph_statistics

    progress = make_progress(quiet=quiet)
    settings = GraphStatisticsSettings(**chosen_settings(GraphStatisticsSettings, options))
    results = graph_statistics(
        which_atlas(where),
        selected_names(saes, every=every),
        settings=settings,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=progress,
    )
    for row in results:
        if row["tokens"] < row["counted"]:
            progress.report(
                f"{row['sae']} was counted over {row['counted']:,} tokens; its graph is over the first "
                f"{row['tokens']:,}."
            )
    rows = all_rows(results)
    emit(rows, as_json=as_json, show=lambda: _show(rows, results))


@click.command("graphs")
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@click.option(
    "--kind",
    default="degree",
    show_default=True,
    type=click.Choice(["degree", "log-degree", "frequency", "scatter", "growth", "page"]),
    help="One plot, or a page of all plots.",
)
@out_option(f"Output file: {PLOT_FILES}", default="graphs.html")
@click.option(
    "--min-count",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Only pairs of features that are among the most active together on N or more tokens.",
)
@atlas_option
@plain_options
def plot_graphs(
    saes: tuple[str, ...],
    *,
    kind: str,
    outs: tuple[Path, ...],
    min_count: int,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Plot degree, frequency and growth of graphs.

    The graphs are co-activation graphs; --kind selects one plot.

    \b
    Examples:
      atlas plot graphs tiny-a-l1-s0 tiny-a-l1-s1
      atlas plot graphs tiny-a-l1-s0 --kind growth --out growth.svg
      atlas plot graphs --kind page --out page.html
    """
    from analysis.graph.coactivation_graph import at_equal_tokens
    from analysis.graph.plots import draw_graphs
    from analysis.plot_style import check_path, save
    from atlas.api import Atlas

    for out in outs:
        check_path(out)
    with Atlas.open(which_atlas(where), progress=make_progress(quiet=quiet)) as atlas:
        names = list(dict.fromkeys(saes)) or atlas.saes
        codes = kind in ("page", "growth")
        graphs = at_equal_tokens(atlas, names, min_count=min_count, codes=codes)
    picture = draw_graphs(graphs, kind=kind)
    written = [str(save(picture, out)) for out in outs]
    emit({"written": written}, as_json=as_json, show=lambda: echo("\n".join(written)))


def _show(result: Mapping[str, Any], results: Results) -> None:
    # The verdicts of one SAE and its floors are one: a terminal begins with three sentences of the SAE.
    print_verdict(results.verdict if results.has_one_trained else results)
    echo()
    saes = result["saes"]
    complete = requested("rows") or not on_terminal()
    means = _means(result["nulls"]) if len(saes) == 1 and not complete else {}
    print_table(
        [
            {"statistic": label, **{one["sae"]: _shown(one, name) for one in saes}}
            | {null: mean.get(name, "–") for null, mean in means.items()}
            for name, label in _ROWS.items()
        ]
        + [
            {
                "statistic": f"{name}: dip test of unimodality",
                **{one["sae"]: _shown_modes(one["modes"][name]) for one in saes},
            }
            for name in (saes[0]["modes"] if not means else ())
        ]
    )
    for one in saes:
        for name, why in one["notes"].items():
            print_text(f"{one['sae']}, {_ROWS.get(name, name)}: no value, since {why}.")
    if result["nulls"] and not complete:
        listed = f"Columns {', '.join(means)}: mean over draws of the null. " if means else ""
        more = "also dip tests, and " if means else ""
        print_text(
            f"{listed}--rows prints {more}the spread, interval and z of each null.", err=True
        )
    keys = dict.fromkeys((row["sae"], row["null"]) for row in result["nulls"])
    for key in keys if complete else ():
        _show_null(key, [row for row in result["nulls"] if (row["sae"], row["null"]) == key])
    if "curves" in result:
        echo()
        print_table(result["curves"], title="Over the first tokens of the corpus")


def _means(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return the mean of each statistic over the draws of each null."""
    means: dict[str, dict[str, str]] = {}
    for row in rows:
        shown = "–" if row["mean"] is None else cell_text(float(row["mean"]))
        means.setdefault(row["null"], {})[row["statistic"]] = shown
    return means


def _show_null(key: tuple[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
    from analysis.graph.null_comparison import NULLS

    sae, null = key
    echo()
    print_text(f"{sae}, null {null!r}: {NULLS[null]}")
    print_table(
        [
            {
                "statistic": _ROWS[row["statistic"]],
                "observed": row["observed"],
                "mean": row["mean"],
                "sd": row["sd"],
                "from": row["low"],
                "to": row["high"],
                "z": row["z"],
                "observed is": row["where"],
            }
            for row in rows
        ],
        controls={"observed": ("mean", "from", "to")},
    )


def _shown(one: Mapping[str, Any], name: str) -> str:
    """Format a number as text, since a column holds several types of numbers."""
    value = one[name]
    if value is None:
        return "–"
    if name == "component_sizes":
        sizes = sorted(value.items())
        listed = ", ".join(f"{size:,} × {times:,}" for size, times in sizes[:6])
        return listed + (f", … {sizes[-1][0]:,}" if len(sizes) > 6 else "")
    if name == "path_length" and one["path_length_error"] is not None:
        return f"{value:.4g} ± {one['path_length_error']:.2g} ({one['path_sources']} sources)"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _shown_modes(modes: Mapping[str, Any]) -> str:
    if modes["p"] is None:
        return "–"
    return f"dip {modes['dip']:.4f}, p {modes['p']:.2g}, n {modes['n']:,}"
