"""The command `atlas splitting`, which finds features that split in a wider SAE."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from analysis.splitting.settings import SplittingSettings
from atlas.amounts import cell_text
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import print_text
from atlas.cli.study_command import Writer, study_command
from atlas.errors import BadInput
from atlas.studies.results import Results

if TYPE_CHECKING:
    from analysis.plot_style import Chart

__all__ = ["splitting"]


def prepare(
    outs: Sequence[Path], saes: Sequence[str], *, kind: Literal["classes", "map", "families"] | None
) -> Callable[[Results], list[str]]:
    """Check the paths, and return a function that draws the first pair, or the families of three SAEs."""
    from analysis.plot_style import plot_writer
    from analysis.splitting.chain_plots import draw_chains
    from analysis.splitting.plots import draw_pair

    if kind is not None and not outs:
        raise BadInput(f"`kind={kind}` selects a picture; name its file with `out`.")
    if kind == "families" and len(saes) < 3:
        raise BadInput(
            f"`kind='families'` draws three SAEs, and {len(saes)} are named; name three."
        )

    def draw(results: Results) -> "Chart":
        if kind == "families" or (kind is None and len(saes) > 2):
            return draw_chains(results)
        return draw_pair(results, kind="map" if kind == "map" else "classes")

    return plot_writer(outs, draw=draw)


def report(results: Results, saes: Sequence[str]) -> dict[str, Any]:
    """Return the pairs, the shares of the classes, and the chains over three widths."""
    from analysis.splitting.chains import chain_rows, describe_chains

    return {
        "pairs": results.rows,
        "classes": class_rows(results),
        "chains": describe_chains(results),
        "chain_rows": chain_rows(results),
    }


def show(found: Mapping[str, Any]) -> None:
    """Print the classes and the chains."""
    rows = [printed_classes(row) for row in found["classes"]]
    print_table(rows, title="Features by class, and in brackets the share of tested features")
    if (chain := found["chains"]) is not None:
        print_text(_chain_sentence(chain))
        if found["chain_rows"]:
            print_table(found["chain_rows"], title="Chains, most grandchildren first")


def class_rows(results: Sequence[Any]) -> list[dict[str, Any]]:
    """Return a row for each side and class, with the features and the share of tested ones of each pair."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in results:
        pair = f"{one['narrow']} → {one['wide']}" + (" (equal width)" if one["equal_width"] else "")
        for row in one.table("classes").to_pylist():
            key = row["side"], row["class"]
            of = rows.setdefault(key, {"features of": row["side"], "class": row["class"]})
            share = None if row["class"] == "untested" else row["share"]
            of[pair] = {"features": row["features"], "share": share}
    return list(rows.values())


def printed_classes(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of ``class_rows`` with one text for each pair.

    Examples
    --------
    >>> printed_classes({"class": "same", "a → b": {"features": 12, "share": 0.25}})
    {'class': 'same', 'a → b': '12 (25%)'}
    """
    return {
        name: value
        if not isinstance(value, Mapping)
        else f"{value['features']:,}"
        + ("" if value["share"] is None else f" ({cell_text(value['share'], 'share')})")
        for name, value in row.items()
    }


def _chain_sentence(chain: dict[str, Any]) -> str:
    names = f"{chain['narrow']} → {chain['middle']} → {chain['wide']}"
    if not chain["chains"]:
        return f"{names}: no chain."
    return (
        f"{names}: {chain['chains']:,} chains; {chain['direct_share']:.1%} have a direct edge between "
        f"their ends, against {chain['chance']:.1%} for ends combined at random."
    )


splitting = study_command(
    "splitting",
    "analysis.splitting.study:find_splits",
    SplittingSettings,
    help="Find features that a wider SAE splits, absorbs or repeats."
    "\n\nAn edge from a parent to a child needs a decoder cosine and a number of joint tokens above "
    "their nulls. The same table between two SAEs of equal width is the baseline. The codes of all "
    "SAEs must be stored. Results are stored in the atlas."
    "\n\n\b\nExamples:\n  atlas splitting tiny-a-l1-s0 tiny-a-l1-wide"
    "\n  atlas splitting tiny-a-l1-s0 tiny-a-l1-wide --baseline tiny-a-l1-s1 --out splitting.html"
    "\n  atlas splitting tiny-a-l1-s0 tiny-a-l1-wide --kind map --out map.html"
    "\n  atlas splitting narrow wide wider --json",
    metavar="NARROW WIDE [WIDER]",
    every=False,
    writer=Writer(
        "Plot the classes of the features, or the families over three SAEs (see --kind): .html (works "
        "offline), .png or .svg; repeat for several files.",
        "analysis.splitting.commands:prepare",
        (
            click.option(
                "--kind",
                type=click.Choice(["classes", "map", "families"]),
                help="Picture to draw: the share of each class, the directions of both SAEs, or the "
                "families of three SAEs. [default: classes; families of three SAEs]",
            ),
        ),
    ),
    report="analysis.splitting.commands:report",
    show="analysis.splitting.commands:show",
)
