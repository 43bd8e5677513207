"""Command `atlas spectra`."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from analysis.spectra.settings import SpectrumSettings
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

__all__ = ["spectra"]

_COLUMNS = (
    "sae",
    "directions",
    "dimensions",
    "participation_ratio",
    "stable_rank",
    "slope",
    "mean_share",
    "encoder_participation_ratio",
    "model_participation_ratio",
    "encoder_distance",
    "model_distance",
)

#: Pairs of SAEs that are printed; --json has all.
_PAIRS = 20


@click.command()
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@settings_options(SpectrumSettings)
@worker_options
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@atlas_option
@shared_options
def spectra(
    saes: tuple[str, ...],
    *,
    replace: bool,
    workers: int,
    ray: str | None,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure how many dimensions the directions of SAEs span.

    Random directions are the null.

    Spectra are of the live features' decoder and encoder directions, and of the matrix of the
    model that writes to the site. Rows have unit length, and their mean is subtracted. The
    second table compares the decoders of SAEs: other seeds, widths, sites and floors.

    \b
    Examples:
      atlas spectra
      atlas spectra tiny-a-l1-s0 --draws 199
    """
    from analysis.spectra.distances import compare_spectra
    from analysis.spectra.study import measure_spectra

    path = folder_of(which_atlas(where))
    results = measure_spectra(
        path,
        saes or None,
        settings=SpectrumSettings(**chosen_settings(SpectrumSettings, options)),
        replace=replace,
        workers=workers,
        ray=ray,
        progress=make_progress(quiet=quiet),
    )
    pairs = compare_spectra(path, saes or None)
    emit(
        {"spectra": results.rows, "pairs": pairs},
        as_json=as_json,
        show=lambda: _show(results.rows, results.verdict, pairs),
    )


def _show(
    rows: Sequence[Mapping[str, Any]], verdict: Sequence[str], pairs: Sequence[Mapping[str, Any]]
) -> None:
    echo("\n".join(verdict) + "\n")
    floor = [name for name in ("role", "floor_of") if any(name in row for row in rows)]
    print_table([dict(row) for row in rows], columns=[*_COLUMNS, *floor])
    if pairs:
        shown = [dict(row) for row in pairs[:_PAIRS]]
        more = len(pairs) - len(shown)
        print_table(shown, title="\nDistances between spectra of decoders")
        if more:
            echo(f"… and {more:,} more pairs; --json has all.")
