"""The command `atlas counterparts`: can graph structure find a feature in another SAE?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from analysis.graph_matching.settings import GraphMatchingSettings
from atlas.cli.options import chosen_settings, settings_options
from atlas.output import (
    atlas_option,
    echo,
    emit,
    folder_of,
    make_progress,
    print_table,
    shared_options,
    which_atlas,
)

__all__ = ["counterparts"]

# Methods whose agreement is printed.
_AGREE = {"frequency", "structure, propagated", "structure, matched", "anchors, matched",
          "activation correlation", "decoder cosine"}  # fmt: skip


def _shares(ctx: click.Context, param: click.Parameter, given: str) -> tuple[float, ...]:
    """Read shares in percent, such as 1,5,10,50."""
    try:
        shares = [float(one) / 100 for one in given.split(",") if one.strip()]
    except ValueError:
        shares = [-1.0]
    if any(not 0 < share < 1 for share in shares):
        raise click.BadParameter(
            f"{given!r} was given; percents between 0 and 100 are expected, such as 1,5,10,50."
        )
    return tuple(sorted(set(shares)))


@click.command("counterparts")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--anchors", default="1,5,10,50", show_default=True, callback=_shares, metavar="PERCENTS",
              help="Shares of the true counterparts that are given away; '' for none.")  # fmt: skip
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1),
              help="How often documents are split and anchors drawn anew.")  # fmt: skip
@click.option("--chosen-on", nargs=2, metavar="C D",
              help="Choose settings on these two SAEs, by mean reciprocal rank over a small grid. "
              "[default: nothing is chosen]")  # fmt: skip
@settings_options(GraphMatchingSettings)
@click.option("--draws", default=20, show_default=True, type=click.IntRange(3),
              help="Draws of each null that a true match must clear.")  # fmt: skip
@click.option("--min-count", default=1, show_default=True, type=click.IntRange(1), metavar="N",
              help="Only edges of features that were together among the most active of N tokens.")  # fmt: skip
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of everything drawn."
)
@click.option("--out", "-o", "outs", multiple=True, metavar="FILE",
              type=click.Path(dir_okay=False, path_type=Path),
              help="Draw the recall curve and all kinds of matching: .html (needs no network), .png or "
              ".svg; several may be named.")  # fmt: skip
@atlas_option
@shared_options
def counterparts(
    a: str,
    b: str,
    *,
    anchors: tuple[float, ...],
    repeats: int,
    chosen_on: tuple[str, str] | None,
    draws: int,
    min_count: int,
    seed: int,
    outs: tuple[Path, ...],
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Find the counterparts of A's features in B by graph structure, beside chance and other kinds of matching.

    The graph of A, the graph of B and the truth (one-to-one matches that clear both nulls) are
    made from disjoint sets of documents, so the codes of both SAEs are needed. No model is run.

    \b
    Examples:
      atlas counterparts tiny-a-l1-s0 tiny-a-l1-s1
      atlas counterparts tiny-a-l1-s0 tiny-a-l1-s1 --chosen-on tiny-a-l1-s1 tiny-a-l1-wide
      atlas counterparts tiny-a-l1-s0 tiny-b-l1-s0 --anchors 5,20 --out curve.html --json
    """
    from analysis.graph_matching import report
    from atlas.folder import Folder

    if outs:
        from analysis.plot_style import check_path

        for out in outs:
            check_path(out)
    settings = GraphMatchingSettings(**chosen_settings(GraphMatchingSettings, options))
    found = report.counterparts(
        Folder.open(folder_of(which_atlas(where))), a, b,
        settings=settings, chosen_on=chosen_on or None, shares=anchors, repeats=repeats, seed=seed,
        draws=draws, min_count=min_count, progress=make_progress(quiet=quiet),
    )  # fmt: skip
    if outs:
        from analysis.graph_matching.plots import draw
        from analysis.plot_style import save

        picture = draw(found)
        found["written"] = [str(save(picture, out)) for out in outs]
    emit(found, as_json=as_json, show=lambda: _show(found))


def _show(found: Mapping[str, Any]) -> None:
    if found["chosen"]:
        for what in ("vectors", "walks"):
            print_table([row for row in found["chosen"]["tried"] if row["what"] == what],
                        title="Tried on " + " and ".join(found["chosen"]["on"]))  # fmt: skip
        echo()
    _show_methods(
        found["methods"], 0.0, "No counterparts known, all live features of B are candidates"
    )
    if found["table_share"]:
        share = found["table_share"]
        echo()
        _show_methods(
            found["methods"],
            share,
            f"All kinds of matching, {share:.0%} known and left out of queries and candidates",
        )
        echo()
        print_table([_curve_row(row) for row in found["methods"] if row["method"].startswith("anchors")],
                    title="Known counterparts")  # fmt: skip
        echo()
        print_table([_gain_row(row) for row in found["by_anchors"]],
                    title="Anchors, matched, less structure, matched: same queries and candidates")  # fmt: skip
    echo()
    print_table([{**row, "95%": _between(row["low"], row["high"])} for row in found["by_frequency"]],
                columns=["method", "bin", "active from", "to", "queries", "frequency alone", "gain", "95%"],
                title="recall@10 beyond frequency alone, by fifths of the queries' frequency")  # fmt: skip
    if found["agreement"]:
        echo()
        print_table([row for row in found["agreement"] if {row["one"], row["two"]} <= _AGREE],
                    title=f"Agreement, {found['table_share']:.0%} known; --json has all pairs")  # fmt: skip
    echo()
    print_table([
        {"known": f"{row['share']:.0%}", "anchors": row["anchors"], "nodes": row["nodes"],
         "FAQ, recall@1": row["faq"], "range": _between(row["faq least"], row["faq most"]),
         "matched, recall@1": row["matching"], "range ": _between(row["matching least"], row["matching most"]),
         "chance": row["chance"]}
        for row in found["faq"]
    ], title="Beside SciPy's FAQ, on subgraphs of features that all have a counterpart; range over repeats")  # fmt: skip
    echo()
    for sentence in found["sentences"]:
        echo(sentence)
    for path in found.get("written", ()):
        echo(path)


def _show_methods(rows: Sequence[Mapping[str, Any]], share: float, title: str) -> None:
    print_table([_method_row(row) for row in rows if row["share"] == share], title=title)


def _method_row(row: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        name: row[name] for name in ("method", "queries", "candidates", "coverage")
    }
    for number, name in enumerate(("recall@1", "recall@10", "recall@100", "mrr")):
        shown |= {
            name: row[name],
            "95%" + " " * number: _between(row[f"{name} low"], row[f"{name} high"]),
        }
    return shown


def _curve_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"known": f"{row['share']:.0%}", "anchors": row["anchors"], **_method_row(row)}


def _gain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"known": f"{row['share']:.0%}", "anchors": row["anchors"]}
    for number, name in enumerate(("recall@1", "recall@10", "recall@100", "mrr")):
        shown |= {
            name: row[name],
            "95%" + " " * number: _between(row[f"{name} low"], row[f"{name} high"]),
        }
    return shown


def _between(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:.3f} – {high:.3f}"
