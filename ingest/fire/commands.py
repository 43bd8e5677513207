"""``atlas fire``: the strongest features on each token of a typed text."""

from pathlib import Path
from typing import Any

import click

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

__all__ = ["fire_command"]


@click.command("fire")
@click.argument("text")
@click.option(
    "--sae",
    "saes",
    multiple=True,
    metavar="SAE",
    help="Only this SAE of the atlas; repeat for several. [default: all]",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="N",
    help="Features per token and SAE.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="NAME|FOLDER",
    help="The model, if it is not where it was at ingest. In an atlas of several models, also pass --sae.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@atlas_option
@shared_options
def fire_command(
    text: str,
    saes: tuple[str, ...],
    top: int,
    model: Path | None,
    device: str,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a text and show the strongest features on each token.

    Activations equal those that an ingest of this text would store. Features are ranked by
    quantile: the share of a feature's activations in the corpus that are at most as large.

    \b
    Examples:
      atlas fire "Once upon a time there was a dragon"
      atlas fire "The cat sat." --sae tiny-a-l1-s0 --top 5
    """
    from atlas.api import Atlas
    from ingest.fire.text_features import FireSettings, fire

    settings = FireSettings(saes=saes, top=top, device=device)
    with Atlas.open(folder_of(which_atlas(where)), progress=make_progress(quiet=quiet)) as atlas:
        found = fire(atlas, text, settings, model=str(model) if model else None)
    names = list(dict.fromkeys(row["sae"] for row in found.rows))

    def show() -> None:
        for name in names:
            rows: list[dict[str, Any]] = []
            last = -1
            for row in (r for r in found.rows if r["sae"] == name):
                repeated = row["position"] == last
                last = row["position"]
                shown = {c: row[c] for c in ("feature", "activation", "quantile", "top_token")}
                rows.append({"token": "" if repeated else row["token"], **shown})
            print_table(rows, title=name)
        if not found.rows:
            echo("No feature is active on this text.")

    emit(list(found.rows), as_json=as_json, show=show)
