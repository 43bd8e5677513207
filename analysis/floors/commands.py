"""The command `atlas floors`."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from analysis.floors.names import statistic_name
from analysis.floors.settings import FloorSettings
from atlas.amounts import Share, is_share
from atlas.cli.options import chosen_settings, settings_options
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import atlas_option, shared_options
from atlas.plugins import StudyCommand

__all__ = ["floors"]


@click.command(cls=StudyCommand)
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
    """Report which statistics distinguish SAEs from their floors.

    Trained SAEs of one model, site, architecture, width and k are seeds of one family. For each
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
        folder_of(which_atlas(where)),
        saes or None,
        settings=FloorSettings(**chosen_settings(FloorSettings, options)),
        replace=replace,
        progress=make_progress(quiet=quiet),
    )
    rows = [
        dict(one)
        | {
            "rows": [
                {"name": statistic_name(row["statistic"]), **row}
                for row in one.table("statistics").to_pylist()
            ]
        }
        for one in results
    ]
    compared = [_compared(one.table("areas").to_pylist()) for one in results]

    def show() -> None:
        print_verdict(results)
        for row, saes in zip(rows, compared, strict=True):
            for role, names in row["floors"].items():
                number, trained = len(saes.get(role, ())), len(row["trained"])
                of = "" if number == trained else f" (of {trained})"
                echo()
                print_table(
                    [_shown(r) for r in row["rows"] if r["role"] == role],
                    controls={"trained": (role, "AUC")},
                    title=f"{row['family']}: {number} trained{of}, {len(names)} {role}",
                )
        for line in _legend([row for one in rows for row in one["rows"]]):
            print_text(line)

    emit(rows, as_json=as_json, show=show)


def _compared(areas: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return by role the trained SAEs that are compared with a floor."""
    found: dict[str, set[str]] = {}
    for row in areas:
        found.setdefault(row["role"], set()).add(row["sae"])
    return found


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the table: means over seeds, and the AUC with its interval."""
    return {
        "statistic": statistic_name(row["statistic"]) + (" (SAE)" if row["of"] == "SAE" else ""),
        "trained": _rounded(row["trained"], row["statistic"]),
        row["role"]: _rounded(row["floor"], row["statistic"]),
        "AUC": _area(row),
    }


def _legend(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the reasons of the cells without a number."""
    lines = []
    if any(None in (row["trained"], row["floor"]) for row in rows):
        lines.append(
            "– in a mean: no such SAE has the number. Its study did not run there, or, for matches, two SAEs of "
            "this role were not matched."
        )
    if any(row["auc"] is None for row in rows):
        lines.append(
            "– as AUC: a number of the SAE, marked (SAE), needs two trained SAEs and two floors; one of features "
            "needs values for both."
        )
    return lines


def _rounded(value: float | None, statistic: str) -> float | None:
    if value is None:
        return None
    number = float(f"{value:.3g}")
    return Share(number) if is_share(statistic) else number


def _area(row: Mapping[str, Any]) -> str | None:
    """Return an AUC with its interval over seeds, if it has one."""
    if row["auc"] is None:
        return None
    if row["auc_low"] is None:
        return f"{row['auc']:.2f}"
    return f"{row['auc']:.2f} ({row['auc_low']:.2f} to {row['auc_high']:.2f})"
