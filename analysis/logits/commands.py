"""Command `atlas logits`."""

from typing import Any

import click

from analysis.logits.settings import LogitSettings
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

__all__ = ["logits"]


@click.command()
@click.argument("saes", nargs=-1, metavar="[SAE]...")
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
    saes: tuple[str, ...],
    *,
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

    \b
    Examples:
      atlas logits tiny-a-l1-s0
      atlas logits --features 0
    """
    from analysis.logits.study import measure_logits

    results = measure_logits(
        folder_of(which_atlas(where)),
        saes or None,
        settings=LogitSettings(**chosen_settings(LogitSettings, options)),
        model=model,
        device=device,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=make_progress(quiet=quiet),
    )

    def show() -> None:
        echo("\n".join(results.verdict))
        floor = [n for n in ("role", "floor_of") if any(n in row for row in results.rows)]
        print_table(results.rows, columns=[*results.rows[0], *floor] if results else None)

    emit(results.rows, as_json=as_json, show=show)
