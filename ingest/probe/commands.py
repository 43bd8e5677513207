"""The command `atlas probe`, and its options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atlas.cli.options import (
    all_option,
    chosen_settings,
    selected_names,
    settings_options,
    worker_options,
)
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import emit, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import atlas_option, finite, shared_options
from atlas.plugins import StudyCommand
from ingest.probe.settings import PRESETS, ProbeSettings

if TYPE_CHECKING:
    from atlas.studies.results import Results

__all__ = ["probe"]


@click.command(cls=StudyCommand, example="A --from hook_embed")
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@all_option
@click.option(
    "--from",
    "sites",
    multiple=True,
    metavar="SITE",
    help="A site of the model (hook_embed, blocks.2.hook_resid_post), or all: the embedding and "
    "the residual stream after every block. Can be repeated. [default: hook_embed]",
)
@click.option(
    "--preset",
    type=click.Choice(sorted(PRESETS)),
    help="Settings of a published study; other options override them.",
)
@settings_options(ProbeSettings)
@click.option(
    "--validate",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Another atlas of the same SAE, whose text is used for validation; all text of "
    "this atlas is then used for training.",
)
@click.option("--model", metavar="MODEL", help="Name or folder. [default: as stored in the atlas]")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@click.option(
    "--memory",
    default=2.0,
    show_default=True,
    metavar="GIB",
    callback=finite,
    help="Memory for fitting, in addition to the vectors; less means fewer features at once.",
)
@worker_options
@click.option("--replace", is_flag=True, help="Probe again what is already stored.")
@atlas_option
@shared_options
def probe(
    saes: tuple[str, ...],
    every: bool,
    sites: tuple[str, ...],
    preset: str | None,
    validate: Path | None,
    model: str | None,
    device: str,
    memory: float,
    replace: bool,
    workers: int,
    ray: str | None,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Predict features from a site of the model by linear probes.

    Each score is reported with its ceiling (the best score of any function of the token)
    and its controls. The embedding needs no model run; other sites need one for all SAEs.

    \b
    Examples:
      atlas probe --all --from hook_embed
      atlas probe tiny-a-l1-s0 --from all --split document
      atlas probe tiny-a-l1-s0 --preset mats
    """
    from dataclasses import replace as changed

    from ingest.probe.study import probe_saes

    settings = PRESETS[preset] if preset else ProbeSettings()
    chosen = chosen_settings(ProbeSettings, options)
    if "penalty" in chosen:
        chosen.setdefault("c", None)
    path = folder_of(which_atlas(where))
    rows = probe_saes(
        path,
        selected_names(saes, every=every),
        sites=sites or ("hook_embed",),
        settings=changed(settings, **chosen),
        validate=validate,
        model=model,
        device=device,
        memory=int(memory * 2**30),
        replace=replace,
        workers=workers,
        ray=ray,
        progress=make_progress(quiet=quiet),
    )
    emit(rows, as_json=as_json, show=lambda: _show(rows))
    if preset and not as_json:
        _show_as_published(rows, path)


def _show(rows: "Results") -> None:
    plain = [{k: v for k, v in row.items() if not isinstance(v, Mapping)} for row in rows]
    empty = {k for k in plain[0] if all(row[k] in (None, "") for row in plain)}
    about = [f"{row['sae']} at {row['site']} ({row['run']})" for row in rows]
    print_verdict(rows)
    print_table(plain, columns=[k for k in plain[0] if k not in empty])
    for name, row in zip(about, rows, strict=True):
        for reason, number in row["excluded"].items():
            if number:
                print_text(f"{name}: {number:,} features excluded – {reason}")


def _show_as_published(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Print the table of the publication with the command `atlas probe-scores` of package analysis."""
    context = click.get_current_context()
    command = context.find_root().command
    show = (
        command.get_command(context, "probe-scores") if isinstance(command, click.Group) else None
    )
    for row in rows if show is not None else ():
        words = [row["sae"], "--site", row["site"], "--run", row["run"], "--atlas", str(path)]
        show.main(words, standalone_mode=False)  # type: ignore[union-attr]
