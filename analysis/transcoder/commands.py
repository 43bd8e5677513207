"""Command `atlas transcoder` and its options."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.transcoder.settings import TranscoderSettings
from atlas.cli.options import chosen_settings, settings_options
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import emit, make_progress, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import finite, shared_options
from atlas.plugins import StudyCommand
from atlas.studies.results import Results
from ingest.text.options import text_options

if TYPE_CHECKING:
    from ingest.text.atlas_corpus import Text

__all__ = ["transcoder"]

_SHOWN = (
    "target",
    "method",
    "tokens",
    "r2_weighted",
    "r2_low",
    "r2_high",
    "token_r2_weighted",
    "token_difference",
    "token_difference_low",
    "token_difference_high",
    "r2",
    "token_r2",
    "r2_in_sample_weighted",
    "token_eta2_weighted",
    "r2_with_bos_weighted",
    "r2_published",
    "bos_share",
)
_CONTROLS = {
    "r2_weighted": ("r2_low", "r2_high", "token_r2_weighted"),
    "r2": ("token_r2",),
}


@click.command(cls=StudyCommand)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--from",
    "source",
    default="hook_embed",
    show_default=True,
    metavar="SITE",
    help="Source site of the maps.",
)
@click.option(
    "--to",
    "targets",
    multiple=True,
    metavar="SITE",
    help="Target site (blocks.2.hook_resid_post), or all: the residual stream after every block. Can be "
    "repeated; the model runs once for all targets. [default: all]",
)
@settings_options(TranscoderSettings)
@text_options(
    "that of the atlas", what="; with --model, it creates a new atlas, which needs no SAE"
)
@click.option(
    "--like",
    metavar="SAE",
    help="Use the text layout of this SAE. [default: the first SAE that reads the model, else the first "
    "of the atlas]",
)
@click.option(
    "--model",
    "model_paths",
    multiple=True,
    metavar="[NAME=]MODEL",
    help="Model by name or folder, optionally with its NAME in the atlas; can be repeated. A model that no "
    "SAE of the atlas reads is mapped on the same text as the others. [default: the stored sources of "
    "the atlas's models]",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@click.option(
    "--memory",
    default=2.0,
    show_default=True,
    metavar="GIB",
    callback=finite,
    help="Memory limit of moments; a lower limit requires more runs of the model.",
)
@click.option("--replace", is_flag=True, help="Compute maps again that are stored already.")
@click.option(
    "--atlas",
    "-a",
    "where",
    metavar="PATH",
    help="Folder of the atlas. [default: $ATLAS, the only *.atlas here, else, with --text, features.atlas]",
)
@shared_options
def transcoder(
    models: tuple[str, ...],
    source: str,
    targets: tuple[str, ...],
    text: "Text | None",
    tokens: int | None,
    like: str | None,
    model_paths: tuple[str, ...],
    device: str,
    memory: float,
    replace: bool,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Predict a site of a model from another by an affine map.

    Each R² is held out by document, and compared with the R² of the means of each token id,
    which estimate the best function of the token.

    MODEL is a model of the atlas: one that its SAEs read, or one mapped before. Pass other
    models with --model, such as a baseline with random weights. In an atlas, a name stands for
    one set of weights; pass a finetuned model in a folder of the same name as NAME=FOLDER. To
    remove the maps of a model, run `atlas rm 'transcoder/NAME@*'`.

    \b
    Examples:
      atlas transcoder --from hook_embed --to all
      atlas transcoder tiny-a --to blocks.1.hook_resid_post --method adam --epochs 5
      atlas transcoder --model ./stories3m --model random=./stories3m-random
      atlas transcoder --text stories.jsonl --tokens 200000 --model gpt2 --model ./gpt2-random --atlas sweep.atlas
    """
    from analysis.transcoder.study import map_sites
    from ingest.forward.request import folder_for

    # Only a text can create a new atlas.
    path = folder_for(Path(where) if where else None) if text else folder_of(which_atlas(where))
    settings = TranscoderSettings(**chosen_settings(TranscoderSettings, options))
    rows = map_sites(
        path,
        models or None,
        text=text,
        tokens=tokens,
        source=source,
        targets=targets or ("all",),
        settings=settings,
        like=like,
        model=list(model_paths),
        device=device,
        memory=int(memory * 2**30),
        replace=replace,
        progress=make_progress(quiet=quiet),
    )
    shown = [dict(row) | {"conclusion": " ".join(row.verdict)} for row in rows]
    emit(shown, as_json=as_json, show=lambda: _show(shown, rows))


def _show(rows: list[dict[str, Any]], results: Results) -> None:
    print_verdict(results)
    for source in dict.fromkeys(row["source"] for row in rows):
        mine = [row for row in rows if row["source"] == source]
        columns = [c for c in _SHOWN if any(row[c] is not None for row in mine)]
        print_table(mine, title=f"\nfrom {source}", columns=columns, controls=_CONTROLS)
