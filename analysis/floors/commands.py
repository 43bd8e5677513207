"""The command `atlas floors`."""

from typing import Any

import click

from analysis.floors.settings import FloorSettings
from atlas.cli.options import chosen_settings, settings_options
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

__all__ = ["floors"]

_COLUMNS = (
    "statistic", "of", "trained", "floor", "auc", "auc_low", "auc_high", "trained_seeds",
    "floor_seeds",
)  # fmt: skip


@click.command()
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@settings_options(FloorSettings)
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@atlas_option
@shared_options
def floors(
    saes: tuple[str, ...],
    *,
    replace: bool,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Report which stored statistics distinguish trained SAEs from their floors.

    Trained SAEs of one model, site, architecture and width are seeds of one family. For each
    statistic, the table has its mean on trained SAEs and on floors, and the AUC with which it
    separates their features, with intervals over seeds. An AUC of 0.5 means that the statistic
    does not depend on training.

    \b
    Examples:
      atlas floors
      atlas floors tiny-a-l1-s0 tiny-a-l1-s1
    """
    from analysis.floors.study import compare_with_floors

    results = compare_with_floors(
        folder_of(which_atlas(where)), saes or None,
        settings=FloorSettings(**chosen_settings(FloorSettings, options)), replace=replace,
        progress=make_progress(quiet=quiet),
    )  # fmt: skip
    rows = [dict(one) | {"rows": one.table("statistics").to_pylist()} for one in results]

    def show() -> None:
        for one, row in zip(results, rows, strict=True):
            for role in row["floors"]:
                chosen = [r for r in row["rows"] if r["role"] == role]
                print_table(chosen, columns=_COLUMNS, title=f"{row['family']}: trained and {role}")
            for sentence in one.verdict:
                echo(sentence)

    emit(rows, as_json=as_json, show=show)
