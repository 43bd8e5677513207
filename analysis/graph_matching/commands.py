"""The command `atlas match-graphs`, which matches features of two SAEs by graph structure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from analysis.graph_matching.settings import GraphMatchingSettings
from atlas.cli.options import chosen_settings, settings_options
from atlas.cli.output.screen import on_terminal
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import PLOT_FILES, atlas_option, out_option, requested, shared_options
from atlas.plugins import StudyCommand
from atlas.studies.results import Results

__all__ = ["counterparts"]

# Methods in the printed table of agreement.
_AGREE = {
    "frequency",
    "structure, propagated",
    "structure, matched",
    "anchors, matched",
    "activation correlation",
    "decoder cosine",
}

# Header of the interval of each score; headers of a table differ in their spaces.
_INTERVALS = {"recall@1": "95%", "recall@10": "95% ", "recall@100": "95%  ", "mrr": "95%   "}
_CONTROLS = {score: (interval,) for score, interval in _INTERVALS.items()}


@click.command("match-graphs", cls=StudyCommand, kind="graph_matching")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@settings_options(GraphMatchingSettings)
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@out_option(f"Plot the recall curve and all methods: {PLOT_FILES}")
@atlas_option
@shared_options
def counterparts(
    a: str,
    b: str,
    *,
    replace: bool,
    outs: tuple[Path, ...],
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Match features of SAEs by the structure of their graphs.

    Baselines and nulls are included.

    The graph of A, the graph of B and the truth (one-to-one matches significant under both nulls)
    are computed from disjoint sets of documents. The codes of both SAEs must therefore be
    stored. No model is run. Results are stored in the atlas.

    \b
    Examples:
      atlas match-graphs tiny-a-l1-s0 tiny-a-l1-s1
      atlas match-graphs tiny-a-l1-s0 tiny-a-l1-s1 --chosen-on tiny-a-l1-s1+tiny-a-l1-wide
      atlas match-graphs tiny-a-l1-s0 tiny-b-l1-s0 --anchor 0.05 --anchor 0.2 --out curve.html
    """
    from analysis.graph_matching.study import find_counterparts, report_of_result

    if outs:
        from analysis.plot_style import check_path

        for out in outs:
            check_path(out)
    settings = GraphMatchingSettings(**chosen_settings(GraphMatchingSettings, options))
    results = find_counterparts(
        folder_of(which_atlas(where)),
        [a, b],
        settings=settings,
        replace=replace,
        progress=make_progress(quiet=quiet),
    )
    found = report_of_result(results[0])
    if outs:
        from analysis.graph_matching.plots import draw_recalls
        from analysis.plot_style import save

        picture = draw_recalls(found)
        found["written"] = [str(save(picture, out)) for out in outs]
    emit(found, as_json=as_json, show=lambda: _show(found, results))


def _show(found: Mapping[str, Any], results: Results) -> None:
    print_verdict(results)
    for path in found.get("written", ()):
        echo(path)
    echo()
    if found["chosen"] and (requested("rows") or not on_terminal()):
        for what in ("vectors", "walks"):
            print_table(
                [row for row in found["chosen"]["tried"] if row["what"] == what],
                title="Settings tried on " + " and ".join(found["chosen"]["on"]),
            )
        echo()
    _show_methods(
        found["methods"], 0.0, "No known counterparts; all live features of B are candidates"
    )
    if found["table_share"]:
        share = found["table_share"]
        echo()
        _show_methods(
            found["methods"],
            share,
            f"All methods; the {share:.0%} known counterparts are excluded from queries and candidates",
        )
    if on_terminal() and not requested("rows"):
        echo("--rows prints all tables: curves over anchors, frequency, agreement.", err=True)
        return
    _show_curves(found)
    _show_controls(found)


def _show_curves(found: Mapping[str, Any]) -> None:
    """Print the recalls by share of anchors and by frequency."""
    if found["table_share"]:
        echo()
        print_table(
            [_curve_row(row) for row in found["methods"] if row["method"].startswith("anchors")],
            controls=_CONTROLS,
            title="Methods with anchors, by share of known counterparts",
        )
        echo()
        print_table(
            [_gain_row(row) for row in found["by_anchors"]],
            controls=_CONTROLS,
            title="Difference of 'anchors, matched' and 'structure, matched', same queries and candidates",
        )
    echo()
    print_table(
        [{**row, "95%": _between(row["low"], row["high"])} for row in found["by_frequency"]],
        columns=["method", "bin", "active from", "to", "queries", "frequency alone", "gain", "95%"],
        controls={"gain": ("frequency alone", "95%")},
        title="Gain of recall@10 over frequency alone, by quintile of query frequency",
    )


def _show_controls(found: Mapping[str, Any]) -> None:
    """Print the agreement of methods, and the comparison with a method of SciPy."""
    if found["agreement"]:
        echo()
        print_table(
            [row for row in found["agreement"] if {row["one"], row["two"]} <= _AGREE],
            title=f"Agreement of methods, {found['table_share']:.0%} known; --json has all pairs",
        )
    echo()
    print_table(
        [
            {
                "known": f"{row['share']:.0%}",
                "anchors": row["anchors"],
                "nodes": row["nodes"],
                "FAQ, recall@1": row["faq"],
                "range": _between(row["faq least"], row["faq most"]),
                "matched, recall@1": row["matching"],
                "range ": _between(row["matching least"], row["matching most"]),
                "chance": row["chance"],
            }
            for row in found["faq"]
        ],
        controls={"FAQ, recall@1": ("range", "matched, recall@1", "range ", "chance")},
        title="Comparison with SciPy's FAQ on subgraphs in which every feature has a counterpart; range over repeats",
    )


def _show_methods(rows: Sequence[Mapping[str, Any]], share: float, title: str) -> None:
    print_table(
        [_method_row(row) for row in rows if row["share"] == share], controls=_CONTROLS, title=title
    )


def _method_row(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("method", "queries", "candidates", "coverage")
    return {name: row[name] for name in names} | _scores(row)


def _curve_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"known": f"{row['share']:.0%}", "anchors": row["anchors"], **_method_row(row)}


def _gain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"known": f"{row['share']:.0%}", "anchors": row["anchors"], **_scores(row)}


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return each score of a row with its interval."""
    shown: dict[str, Any] = {}
    for name, interval in _INTERVALS.items():
        shown |= {
            name: row[name],
            interval: _between(row[f"{name} low"], row[f"{name} high"]),
        }
    return shown


def _between(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:.3f} – {high:.3f}"
