"""Command `atlas logits`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.logits.settings import LogitSettings
from atlas.cli.options import (
    all_option,
    chosen_settings,
    selected_names,
    settings_options,
    worker_options,
)
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import atlas_option, shared_options
from atlas.plugins import StudyCommand

if TYPE_CHECKING:
    from atlas.studies.results import Result

__all__ = ["logits"]

#: Titles of the tables of one feature.
_TITLES = {
    "promoted": "Promoted tokens (highest direct logits)",
    "suppressed": "Suppressed tokens (lowest direct logits)",
    "changed": "Tokens that its ablation changes most",
}


@click.command(cls=StudyCommand, example="A")
@click.argument("names", nargs=-1, metavar="[SAE|SAE/INDEX]...")
@all_option
@settings_options(LogitSettings)
@click.option(
    "--model", metavar="MODEL", help="The model by name or folder. [default: the stored source]"
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@worker_options
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@atlas_option
@shared_options
def logits(
    names: tuple[str, ...],
    *,
    every: bool,
    model: str | None,
    device: str,
    replace: bool,
    workers: int,
    ray: str | None,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Find the tokens that each feature promotes or suppresses.

    The change of their log-probabilities by ablation is measured.

    Direct logits are the decoder row of a feature through final norm and unembedding, without
    the later blocks. A sample of features is ablated where they are active. The measured change
    of all log-probabilities is compared with the direct logits of the same and of other
    features. The results are edges PROMOTES and SUPPRESSES. Features outside the sample have no
    measured change; --features N with the width of the SAE ablates all live features.

    With SAE/INDEX, the tokens of one feature are printed, and nothing is stored.

    \b
    Examples:
      atlas logits tiny-a-l1-s0
      atlas logits tiny-a-l1-s0/7
      atlas logits --all --features 0
    """
    from analysis.logits.study import measure_logits

    selected = selected_names(names, every=every)
    path = folder_of(which_atlas(where))
    shared: dict[str, Any] = {
        "settings": LogitSettings(**chosen_settings(LogitSettings, options)),
        "model": model,
        "device": device,
        "progress": make_progress(quiet=quiet),
    }
    if _are_features(path, names):
        from analysis.logits.one_feature import measure_feature_logits

        found = [measure_feature_logits(path, name, **shared) for name in dict.fromkeys(names)]
        emit([_row(one) for one in found], as_json=as_json, show=lambda: _show_features(found))
        return
    results = measure_logits(path, selected, replace=replace, workers=workers, ray=ray, **shared)

    def show() -> None:
        print_verdict(results)
        floor = [n for n in ("role", "floor_of") if any(n in row for row in results.rows)]
        columns = [*results.rows[0], *floor] if results else None
        print_table(results.rows, columns=columns, turned=True)

    emit(results.rows, as_json=as_json, show=show)


def _are_features(path: Path, names: Sequence[str]) -> bool:
    """Return whether names are those of features; raise BadInput if only some are."""
    from atlas.disk.folder import Folder
    from atlas.errors import BadInput

    saes = Folder.open(path).sound().saes if names else []
    features = [name for name in names if name not in saes and "/" in name]
    if features and len(features) < len(names):
        other = next(name for name in names if name not in features)
        raise BadInput(
            f"{features[0]} is a feature and {other} is not; pass features alone, or SAEs alone."
        )
    return bool(features)


def _row(one: "Result") -> dict[str, Any]:
    return {**one.summary, **{name: one.table(name).to_pylist() for name in one.tables}}


def _show_features(found: "Sequence[Result]") -> None:
    for number, one in enumerate(found):
        if number:
            echo()
        for sentence in one.verdict:
            print_text(sentence)
        for name in one.tables:
            if one.table(name).num_rows:
                echo()
                print_table(one.table(name).to_pylist(), title=_TITLES[name])
