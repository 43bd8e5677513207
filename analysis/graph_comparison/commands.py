"""The command `atlas compare`: comparisons of the co-activation graphs of SAEs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from analysis.graph_comparison.settings import ComparisonSettings
from atlas.cli.options import chosen_settings, settings_options
from atlas.cli.output import (
    atlas_option,
    echo,
    emit,
    make_progress,
    print_table,
    shared_options,
    which_atlas,
)

__all__ = ["compare"]


@click.command()
@click.argument("saes", nargs=-1, metavar="SAE SAE [SAE]...")
@settings_options(ComparisonSettings)
@click.option("--replace", is_flag=True, help="Compare again what is stored already.")
@click.option("--out", "-o", "outs", multiple=True,
              type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Draw a page too: .html (needs no network), .png or .svg; several may be named.")  # fmt: skip
@atlas_option
@shared_options
def compare(
    saes: tuple[str, ...],
    *,
    replace: bool,
    outs: tuple[Path, ...],
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare the co-activation graphs of SAEs, every two of them.

    Distances of degree, clustering, core number and strength; edges conserved between matched
    features; overlap of communities. Each number has two controls: its value between two
    halves of the documents for one SAE, and its value under a null. With codes, A's graph is also
    taken from one half of the documents and B's from the other, so that they share no text.
    The atlas stores the results. On a server nothing is stored.

    \b
    Examples:
      atlas compare tiny-a-l1-s0 tiny-a-l1-s1 --out alike.html --out alike.png
      atlas compare tiny-a-l1-s0 tiny-a-l1-s1 tiny-a-l1-wide --min-count 5
      atlas compare tiny-a-l1-s0 tiny-b-l1-s0 --matches one-to-one --json
    """
    from analysis.graph_comparison.study import compare_graphs, comparison_of

    if outs:
        from analysis.plot_style import check_path

        for out in outs:
            check_path(out)
    settings = ComparisonSettings(**chosen_settings(ComparisonSettings, options))
    results = compare_graphs(
        which_atlas(where), saes, settings=settings, replace=replace,
        progress=make_progress(quiet=quiet),
    )  # fmt: skip
    found = [comparison_of(one) for one in results]
    result: dict[str, Any] = {"comparisons": [one.reported for one in found], "written": []}
    if outs:
        from analysis.graph_comparison.plots import draw
        from analysis.plot_style import save

        picture = draw(found)
        result["written"] = [str(save(picture, out)) for out in outs]
    emit(result, as_json=as_json, show=lambda: _show(result))


def _show(result: Mapping[str, Any]) -> None:
    comparisons = result["comparisons"]
    print_table([
        _line(row)
        for one in comparisons
        for row in one["rows"]
        if _is_shown(row, halves=one["half_tokens"] > 0)
    ])  # fmt: skip
    echo(
        "\nlimits: a distance ± its standard error is biased upward near 0, and the range of halvings "
        "does not hold\nfor another text; neither is a confidence interval. same SAE has limits of "
        "the same kind.\nover: 'all', the same tokens; 'halves', A's graph from half of the documents, B's from the "
        "other.\nsame SAE: the same between the halves of one SAE. chance: of distances, from the "
        "bipartite null\n(and its range); of edges and communities, matches permuted within frequency and degree "
        "(and 95% of draws).\nswapped: B's edges swapped, degrees unchanged."
    )
    for one in comparisons:
        echo(f"\n{one['conclusion']}")
        for note in one["notes"]:
            echo(f"  {note}")
    for path in result["written"]:
        echo(path)


def _is_shown(row: Mapping[str, Any], halves: bool) -> bool:
    """Return whether a row is printed; --json has all.

    Distances over halves have more controls than those over all tokens. By r, both give
    nearly the same shares of edges.
    """
    wanted = {"distance": "halves" if halves else "all", "conserved by r": "all"}
    return bool(row["text"] == wanted.get(row["kind"], row["text"]))


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "A": row["a"],
        "B": row["b"],
        "": row["kind"],
        "measure": row["measure"] + (f" ({row['unit']})" if row["unit"] else ""),
        "over": row["text"],
        "n": row["n"],
        "value": row["value"] if row["value"] is not None else row["note"],
        "limits": _range(row, ""),
        "are": row["limits"],
        "same SAE": row["itself_mean"],
        "its limits": _range(row, "itself_"),
        "chance": row["null_mean"],
        "of chance": _range(row, "null_"),
        "p": row["p"],
        "swapped": row["rewired_mean"],
        "p swapped": row["rewired_p"],
    }


def _range(row: Mapping[str, Any], of: str) -> str | None:
    low, high = row[f"{of}low"], row[f"{of}high"]
    return None if low is None or high is None else f"{low:.3g} – {high:.3g}"
