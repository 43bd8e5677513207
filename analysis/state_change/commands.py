"""Command `atlas changes`."""

from typing import Any

import click

from analysis.state_change.settings import StateSettings
from atlas.amounts import counted
from atlas.cli.options import chosen_settings, settings_options
from atlas.cli.output.screen import on_terminal
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import (
    echo,
    emit,
    make_progress,
    print_paragraph,
    print_text,
    print_verdict,
)
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import atlas_option, requested, shared_options
from atlas.plugins import StudyCommand

__all__ = ["changes"]

_COLUMNS = (
    "feature",
    "moved",
    "change",
    "low",
    "high",
    "control_largest",
    "q",
    "edited",
    "mean_before",
    "mean_after",
    "rate_before",
    "rate_after",
)
_CONTROLS = {"change": ("low", "high", "control_largest", "q")}
_SAE_CONTROLS = {
    "moved": ("moved_by_random", "moved_by_random_most"),
    "total_change": ("total_change_by_random",),
    "overlap": ("overlap_by_random",),
}


@click.command(cls=StudyCommand, kind="state_change")
@click.argument("features", nargs=-1, metavar="SAE/INDEX...", required=True)
@click.option(
    "--on",
    multiple=True,
    metavar="SAE",
    help="SAE whose features are compared, and no other; can be repeated. [default: all at the site and at later "
    "sites]",
)
@settings_options(StateSettings)
@click.option(
    "--top", default=3, show_default=True, type=click.IntRange(0), metavar="N",
    help="Largest changes of each SAE that are printed.",
)  # fmt: skip
@click.option(
    "--model", metavar="MODEL", help="The model by name or folder. [default: the stored source]"
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@click.option("--replace", is_flag=True, help="Recompute a stored result.")
@atlas_option
@shared_options
def changes(
    features: tuple[str, ...],
    *,
    on: tuple[str, ...],
    top: int,
    model: str | None,
    device: str,
    replace: bool,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Edit features, and compare all features before and after.

    Features of the same site and of later sites are compared.

    Features change their mean activation and their rate, token by token. The control are edits
    along random directions of equal norm. A feature moves if q <= 0.05 and its change is larger
    than under every random direction (control_largest). Only tokens that the edit can reach are
    compared.

    \b
    Examples:
      atlas changes tiny-a-l0-s0/13
      atlas changes tiny-a-l0-s0/359 --edit clamp --times 2 --on tiny-a-l1-s0
    """
    from analysis.state_change.study import compare_states, requested_tokens
    from analysis.state_change.verdict import has_evidence, text_shortage

    (one,) = compare_states(
        folder_of(which_atlas(where)),
        features,
        on=on,
        settings=StateSettings(**chosen_settings(StateSettings, options)),
        model=model,
        device=device,
        replace=replace,
        progress=make_progress(quiet=quiet),
    )
    found = one.table("changes").to_pylist()
    saes = one.table("saes").to_pylist()

    def show() -> None:
        general, own_sentences = one.verdict[: -len(saes)], one.verdict[-len(saes) :]
        sentence = {row["sae"]: text for row, text in zip(saes, own_sentences, strict=True)}
        # Stated below the tables, where a terminal has space for it.
        shortage = text_shortage(one.summary, requested_tokens(one.settings))
        print_verdict([text for text in general if text != shortage])
        echo()
        print_table(saes, controls=_SAE_CONTROLS, folded=True)
        shown = saes
        if on_terminal() and not requested("rows"):
            shown = [row for row in saes if has_evidence(row, found)]
        for row in shown:
            own = [each for each in found if each["sae"] == row["sae"]]
            print_paragraph(sentence[row["sae"]])
            print_table(
                own[:top],
                columns=_COLUMNS,
                controls=_CONTROLS,
                keys=("moved",),
                folded=True,
                title=f"Largest changes of {row['sae']}, with 95% intervals",
            )
        print_verdict([sentence[row["sae"]] for row in saes if row not in shown])
        if shortage is not None:
            print_text(shortage, err=True)
        if hidden := len(saes) - len(shown):
            remark = f"Features of {counted(hidden, 'SAE')} without evidence are not shown; --rows prints all."
            print_text(remark, err=True)

    edited = one.table("edited").to_pylist()
    emit(
        {**one.summary, "edited": edited, "saes": saes, "changes": found},
        as_json=as_json,
        show=show,
    )
