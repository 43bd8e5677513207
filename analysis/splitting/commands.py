"""The command `atlas splitting`, which finds features that split in a wider SAE."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from analysis.splitting.settings import SplittingSettings
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

__all__ = ["splitting"]


@click.command()
@click.argument("saes", nargs=-1, metavar="NARROW WIDE [WIDER]")
@settings_options(SplittingSettings)
@worker_options
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@click.option(
    "--out",
    "-o",
    "outs",
    multiple=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Plot the map of both SAEs and the classes: .html (works offline), .png or .svg; repeat "
    "for several files.",
)
@atlas_option
@shared_options
def splitting(saes: tuple[str, ...], *, outs: tuple[Path, ...], **options: Any) -> None:
    """Find features that a wider SAE splits, absorbs or repeats.

    An edge from a parent to a child needs a decoder cosine and a number of joint tokens above their
    nulls. The same table between two SAEs of equal width is the baseline. The codes of all SAEs must
    be stored. Results are stored in the atlas.

    \b
    Examples:
      atlas splitting tiny-a-l1-s0 tiny-a-l1-wide
      atlas splitting tiny-a-l1-s0 tiny-a-l1-wide --baseline tiny-a-l1-s1 --out splitting.html
      atlas splitting narrow wide wider --json
    """
    from analysis.splitting.chains import describe_chains
    from analysis.splitting.study import find_splits

    if outs:
        from analysis.plot_style import check_path

        for out in outs:
            check_path(out)
    results = find_splits(
        folder_of(which_atlas(options["where"])),
        saes or None,
        settings=SplittingSettings(**chosen_settings(SplittingSettings, options)),
        **{name: options[name] for name in ("replace", "workers", "ray")},
        progress=make_progress(quiet=options["quiet"]),
    )
    found: dict[str, Any] = {
        "pairs": results.rows,
        "classes": class_rows(results),
        "chains": describe_chains(results),
        "written": [],
    }
    if outs:
        from analysis.plot_style import save

        picture = results[0].plot()
        found["written"] = [str(save(picture, out)) for out in outs]

    def show() -> None:
        for sentence in results.verdict:
            echo(sentence)
        print_table(found["classes"], title="Share of tested features by class")
        if (chain := found["chains"]) is not None:
            echo(_chain_sentence(chain))
        for path in found["written"]:
            echo(path)

    emit(found, as_json=options["as_json"], show=show)


def class_rows(results: Sequence[Any]) -> list[dict[str, Any]]:
    """Return a row for each side and class, with the share of each pair in a column."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in results:
        pair = f"{one['narrow']} → {one['wide']}" + (" (equal width)" if one["equal_width"] else "")
        for row in one.table("classes").to_pylist():
            key = row["side"], row["class"]
            of = rows.setdefault(key, {"features of": row["side"], "class": row["class"]})
            of[pair] = row["share"] if row["class"] != "untested" else row["features"]
    return list(rows.values())


def _chain_sentence(chain: dict[str, Any]) -> str:
    names = f"{chain['narrow']} → {chain['middle']} → {chain['wide']}"
    if not chain["chains"]:
        return f"{names}: no chain."
    return (
        f"{names}: {chain['chains']:,} chains; {chain['direct_share']:.1%} have a direct edge between "
        f"their ends, against {chain['chance']:.1%} for ends combined at random."
    )
