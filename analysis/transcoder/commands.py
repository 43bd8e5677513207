"""The command `atlas transcoder`, and its options."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.transcoder.settings import TranscoderSettings
from atlas.cli.options import chosen_settings, settings_options
from atlas.cli.output import (
    echo,
    emit,
    finite,
    folder_of,
    make_progress,
    print_table,
    shared_options,
    which_atlas,
)
from ingest.text.options import text_options

if TYPE_CHECKING:
    from ingest.text.atlas_corpus import Text

__all__ = ["transcoder"]

_SHOWN = (
    "target", "method", "tokens", "r2_weighted", "r2_low", "r2_high", "token_r2_weighted",
    "token_difference", "token_difference_low", "token_difference_high", "r2", "token_r2", "r2_in_sample_weighted", "token_eta2_weighted", "r2_with_bos_weighted",
    "r2_published", "bos_share",
)  # fmt: skip


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--from", "source", default="hook_embed", show_default=True, metavar="SITE",
              help="The place in the model that is mapped from.")  # fmt: skip
@click.option("--to", "targets", multiple=True, metavar="SITE",
              help="A place that is mapped to (blocks.2.hook_resid_post), or all: the residual stream "
              "after every block. Several may be given; one run of the model serves all. [default: all]")  # fmt: skip
@settings_options(TranscoderSettings)
@text_options(
    "that of the atlas", what="; with it and --model a new atlas is begun, which needs no SAE"
)
@click.option("--like", metavar="SAE",
              help="Lay text out as it was for this SAE. [default: the first that reads the model, else the "
              "first of the atlas]")  # fmt: skip
@click.option("--model", "given_models", multiple=True, metavar="[NAME=]MODEL",
              help="A model by name or folder, as what it is called in the atlas or under a NAME; several may "
              "be given. One that no SAE of the atlas reads is mapped beside the others, on the same text. "
              "[default: those the atlas notes]")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@click.option("--memory", default=2.0, show_default=True, metavar="GIB", callback=finite,
              help="What moments may take; less means more runs of the model.")  # fmt: skip
@click.option("--replace", is_flag=True, help="Map again what was mapped already.")
@click.option("--atlas", "-a", "where", metavar="PATH",
              help="The folder. [default: $ATLAS, the only *.atlas here, else, with --text, features.atlas]")  # fmt: skip
@shared_options
def transcoder(
    models: tuple[str, ...],
    source: str,
    targets: tuple[str, ...],
    text: "Text | None",
    tokens: int | None,
    like: str | None,
    given_models: tuple[str, ...],
    device: str,
    memory: float,
    replace: bool,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Ask how much of a place in a MODEL is an affine image of another.

    Each R² is held out by document and stands beside what the means of each token id
    predict: at the embedding, that is what any function of the token could do.

    MODEL is one of the atlas: one that its SAEs read, or one mapped before. Others are
    given with --model: a floor of random weights, say, or models side by side. What an
    atlas calls by one name has one set of weights; a finetune in a folder of the same name
    is given as NAME=FOLDER. `atlas rm 'transcoder/NAME@*'` removes the maps of a model.

    \b
    Examples:
      atlas transcoder --from hook_embed --to all
      atlas transcoder tiny-a --to blocks.1.hook_resid_post --method adam --epochs 5
      atlas transcoder --model ./stories3m --model random=./stories3m-random
      atlas transcoder --text stories.jsonl --tokens 200000 --model gpt2 --model ./gpt2-random --atlas sweep.atlas
    """
    from analysis.transcoder.study import map_sites
    from ingest.forward.request import folder_for

    # With a text an atlas may be begun.
    path = folder_for(Path(where) if where else None) if text else folder_of(which_atlas(where))
    settings = TranscoderSettings(**chosen_settings(TranscoderSettings, options))
    rows = map_sites(
        path, models or None, text=text, tokens=tokens, source=source, targets=targets or ("all",),
        settings=settings, like=like, model=list(given_models), device=device,
        memory=int(memory * 2**30), replace=replace, progress=make_progress(quiet=quiet),
    )  # fmt: skip
    said = [dict(row) | {"conclusion": " ".join(row.verdict)} for row in rows]
    emit(said, as_json=as_json, show=lambda: _show(said))


def _show(rows: list[dict[str, Any]]) -> None:
    for source in dict.fromkeys(row["source"] for row in rows):
        mine = [row for row in rows if row["source"] == source]
        columns = [c for c in _SHOWN if any(row[c] is not None for row in mine)]
        print_table(mine, title=f"from {source}", columns=columns)
    for row in rows:
        echo(row["conclusion"])
