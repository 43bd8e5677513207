"""The command `atlas similarity`, which compares the spaces of matched SAEs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from analysis.similarity.settings import SimilaritySettings
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

__all__ = ["similarity"]

_COLUMNS = (
    "space",
    "subset",
    "points",
    "measure",
    "pairs",
    "value",
    "null",
    "p",
    "frequency_null",
    "frequency_p",
    "matched_null",
    "matched_p",
)
_GRID = ("a", "b", "space", "measure", "pairs", "value", "null", "excess", "p", "q")


@click.command()
@click.argument("saes", nargs=-1, metavar="[SAE SAE]...")
@click.option(
    "--all", "every", is_flag=True, help="Compare all matched pairs of SAEs of the atlas."
)
@settings_options(SimilaritySettings)
@worker_options
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@click.option(
    "--out",
    "-o",
    "outs",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Plot one pair, or heatmaps of several: .html (works offline), .png or .svg; "
    "repeat for several files.",
)
@atlas_option
@shared_options
def similarity(
    saes: tuple[str, ...],
    *,
    every: bool,
    workers: int,
    ray: str | None,
    replace: bool,
    outs: tuple[Path, ...],
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare the spaces that matched features span.

    The measures are SVCCA, CCA, CKA, RSA, shared neighbours and Procrustes.

    Decoder rows and activations on the same tokens are compared, on one-to-one matches. Each
    value has the mean of shuffled pairings next to it. `frequency_null` shuffles pairs within
    bins of frequency. `matched_null` draws random matched pairs of equal number and
    frequency. With several pairs, q is over all of them.

    \b
    Examples:
      atlas similarity tiny-a-l1-s0 tiny-a-l1-s1 --out pair.html
      atlas similarity tiny-a-l1-s0 tiny-b-l1-s0 --raw stream
      atlas similarity --all --out heatmaps.html --out heatmaps.png
    """
    from analysis.similarity.grid import grid
    from analysis.similarity.study import compare_spaces
    from atlas.errors import BadInput

    if every == bool(saes):
        raise BadInput("Name two or more SAEs, or pass --all for all matched pairs; not both.")
    if outs:
        from analysis.plot_style import check_path

        for out in outs:
            check_path(out)
    results = compare_spaces(
        folder_of(which_atlas(where)),
        saes or None,
        settings=SimilaritySettings(**chosen_settings(SimilaritySettings, options)),
        replace=replace,
        workers=workers,
        ray=ray,
        progress=make_progress(quiet=quiet),
    )
    found: dict[str, Any] = {
        "pairs": [{**one.summary, "rows": one.table("rows").to_pylist()} for one in results],
        "grid": grid(results),
        "verdict": results.verdict,
        "floors": sum(one.floor for one in results),
        "written": [],
    }
    if outs:
        from analysis.plot_style import save
        from analysis.similarity.plots import draw, draw_heatmaps

        picture = (
            draw(results[0]) if sum(not r.floor for r in results) == 1 else draw_heatmaps(results)
        )
        found["written"] = [str(save(picture, out)) for out in outs]
    emit(found, as_json=as_json, show=lambda: _show(found))


def _show(found: Mapping[str, Any]) -> None:
    for sentence in found["verdict"]:
        echo(sentence)
    pairs: Sequence[Mapping[str, Any]] = found["pairs"]
    if len(pairs) - found["floors"] == 1:
        rows = [dict(row) for row in pairs[0]["rows"]]
        print_table(rows, columns=_COLUMNS)
        for note in dict.fromkeys(
            f"{r['subset']}, {r['measure']}: {r['note']}" for r in rows if r["note"]
        ):
            echo(f"  {note}")
        shares = [(pairs[0][f"unique_{way}"], way) for way in ("ab", "ba")]
        for share, way in shares:
            if share is not None:
                side, other = (pairs[0][end] for end in way)
                echo(
                    f"Best partners of {side} in {other} that are different features: {share:.0%}."
                )
    if len(pairs) > 1:  # pairs of floors come last
        print_table(found["grid"], columns=_GRID)
    for path in found["written"]:
        echo(path)
