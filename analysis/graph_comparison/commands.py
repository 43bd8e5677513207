"""The command `atlas compare-graphs`, which compares co-activation graphs of SAEs."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.graph_comparison.settings import ComparisonSettings
from atlas.amounts import Share, cell_text, counted
from atlas.cli.options import (
    all_option,
    chosen_settings,
    selected_names,
    settings_options,
)
from atlas.cli.output.screen import on_terminal
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import which_atlas
from atlas.cli.shared_options import PLOT_FILES, atlas_option, out_option, requested, shared_options
from atlas.plugins import StudyCommand
from atlas.studies.results import Results

if TYPE_CHECKING:
    from analysis.graph_comparison.comparison import Comparison, Row

__all__ = ["compare"]

# Columns of the table; a narrow terminal omits the last ones.
_COLUMNS = (
    "measure",
    "value",
    "same SAE",
    "null",
    "p null",
    "swapped",
    "p swapped",
    "over",
    "n",
    "kind",
    "limits",
    "kind of limits",
    "same SAE limits",
    "null limits",
)
_CONTROLS = {"value": ("same SAE", "null", "p null", "swapped", "p swapped")}
# Kinds of rows, in the plural.
_KINDS = {
    "distance": "distances",
    "coverage": "of coverage",
    "conserved": "of conserved edges",
    "conserved by r": "of conserved edges by r, which include low r",
    "communities": "of communities",
}
_LEGEND = (
    "\nsame SAE: the value between the halves of one SAE, with limits of the same kind.",
    "null: for distances, the bipartite null and its range; for edges and communities, matches permuted "
    "within frequency and degree, with the 95% range of draws.",
    "swapped: B's edges swapped, degrees unchanged.",
    "p null, p swapped: share of the draws of null and of swapped with at least the value. –: no draws of "
    "this control, as for distances and for communities with swapped edges, or not measured.",
    "over: 'all', both graphs from all tokens; 'halves', A's graph from half of the documents and "
    "B's from the other.",
    "limits: '± standard error' and 'range of halvings' are not confidence intervals. Small distances "
    "are biased upward, and the range of halvings does not generalize to other text.",
)


@click.command("compare-graphs", cls=StudyCommand, kind="graph_comparison")
@click.argument("saes", nargs=-1, metavar="[SAE SAE]...")
@all_option
@settings_options(ComparisonSettings)
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@out_option(f"Plot the comparisons: {PLOT_FILES}")
@atlas_option
@shared_options
def compare(
    saes: tuple[str, ...],
    *,
    every: bool,
    replace: bool,
    outs: tuple[Path, ...],
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare the co-activation graphs of pairs of SAEs.

    The comparison covers distances of degree, clustering, core number and strength, edges
    conserved between matched features, and overlap of communities. Each number has two
    controls: its value between two halves of the documents for one SAE, and its value under a
    null. With codes, A's graph is also computed from one half of the documents and B's from
    the other, so that they share no text. Results are stored in the atlas, but not on a server.

    \b
    Examples:
      atlas compare-graphs tiny-a-l1-s0 tiny-a-l1-s1 --out comparison.html --out comparison.png
      atlas compare-graphs tiny-a-l1-s0 tiny-a-l1-s1 tiny-a-l1-wide --min-count 5
      atlas compare-graphs tiny-a-l1-s0 tiny-b-l1-s0 --matches one-to-one --json
    """
    from analysis.graph_comparison.study import compare_graphs, comparison_of

    if outs:
        from analysis.plot_style import check_path

        for out in outs:
            check_path(out)
    settings = ComparisonSettings(**chosen_settings(ComparisonSettings, options))
    results = compare_graphs(
        which_atlas(where),
        selected_names(saes, every=every),
        settings=settings,
        replace=replace,
        progress=make_progress(quiet=quiet),
    )
    comparisons = [comparison_of(one) for one in results]
    result: dict[str, Any] = {"comparisons": [one.reported for one in comparisons], "written": []}
    if outs:
        from analysis.graph_comparison.plots import draw_comparisons
        from analysis.plot_style import save

        picture = draw_comparisons(comparisons)
        result["written"] = [str(save(picture, out)) for out in outs]
    emit(result, as_json=as_json, show=lambda: _show(results, result["written"]))


def _show(results: Results, written: Sequence[str]) -> None:
    from analysis.graph_comparison.report import verdict_rows
    from analysis.graph_comparison.study import comparison_of

    comparisons = [comparison_of(one) for one in results]
    print_verdict(results)
    echo()
    shown = [row for one in comparisons for row in _printed(one)]
    if on_terminal() and not requested("rows"):
        shown = [row for one in comparisons for row in verdict_rows(one.rows)] or shown
    print_table(list(map(_line, shown)), columns=_columns(len(comparisons)), controls=_CONTROLS)
    print_text(_omitted(comparisons, shown))
    for line in _LEGEND:
        print_text(line)
    for one in comparisons:
        for note in one.notes:
            print_text(note, indent="  ")
    for path in written:
        echo(path)


def _omitted(comparisons: Sequence["Comparison"], shown: Sequence["Row"]) -> str:
    """State how many rows of each kind are not in the table, and how to read them."""
    listed = [row for one in comparisons for row in _printed(one)]
    rest = len([row for one in comparisons for row in one.rows]) - len(listed)
    kinds = Counter(_KINDS[row.kind] for row in listed) - Counter(_KINDS[row.kind] for row in shown)
    further = (
        f"--json has {counted(rest, 'further row')}: distances over all tokens, shares by r over halves."
        if rest
        else ""
    )
    if not kinds:
        return further
    names = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    return f"Omitted: {counted(kinds.total(), 'row')} ({names}). --rows prints them. {further}"


def _printed(one: "Comparison") -> list["Row"]:
    """Return the rows that are printed with --rows; --json has all rows.

    Distances over halves have more controls than those over all tokens. Shares of edges by r
    are nearly the same for both.
    """
    wanted = {"distance": "halves" if one.half_tokens > 0 else "all", "conserved by r": "all"}
    return [row for row in one.rows if row.text == wanted.get(row.kind, row.text)]


def _columns(pairs: int) -> list[str]:
    """Return the columns of the table; the verdict names the SAEs of one pair."""
    return list(_COLUMNS if pairs == 1 else ("A", "B", *_COLUMNS))


def _line(row: "Row") -> dict[str, Any]:
    def number(value: float | None) -> float | None:
        if value is None or not row.measure.startswith("share of "):
            return value
        return Share(value)

    def limits(low: float | None, high: float | None) -> str | None:
        ends = [cell_text(number(end)) for end in (low, high) if end is not None]
        return " – ".join(ends) if len(ends) == 2 else None

    return {
        "A": row.a,
        "B": row.b,
        "kind": row.kind,
        "measure": row.measure + (f" ({row.unit})" if row.unit else ""),
        "over": row.text,
        "n": row.n,
        "value": number(row.value) if row.value is not None else row.note,
        "limits": limits(row.low, row.high),
        "kind of limits": row.limits,
        "same SAE": number(row.itself_mean),
        "same SAE limits": limits(row.itself_low, row.itself_high),
        "null": number(row.null_mean),
        "null limits": limits(row.null_low, row.null_high),
        "p null": row.p,
        "swapped": number(row.rewired_mean),
        "p swapped": row.rewired_p,
    }
