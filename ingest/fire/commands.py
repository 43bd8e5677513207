"""``atlas fire``: the strongest features on each token of a typed text."""

from pathlib import Path

import click

from atlas.amounts import listed
from atlas.cli.output.text import echo, emit, make_progress, print_text
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import atlas_option, requested, table_options
from ingest.fire.screen import about_few_active_tokens, about_omitted, print_features

__all__ = ["fire_command"]


@click.command("fire")
@click.argument("text")
@click.option(
    "--sae",
    "saes",
    multiple=True,
    metavar="SAE",
    help="Only this SAE of the atlas; repeat for several. [default: all but floors]",
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
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write one self-contained page, with every token shaded.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@atlas_option
@table_options
def fire_command(
    text: str,
    saes: tuple[str, ...],
    top: int,
    model: Path | None,
    html: Path | None,
    device: str,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a text and show the strongest features on each token.

    One row per token shows the strongest feature over all SAEs. With --sae or --rows, there is a
    table for each SAE. Floors, whose features mean nothing, are used only if --sae names them.

    Activations equal those that an ingest of this text would store. Their scale differs between
    SAEs, so features are ranked by quantile: the share of a feature's activations in the corpus
    that are at most as large, estimated from a histogram. top_token is the token of the corpus on
    which the feature is active most often.

    \b
    Examples:
      atlas fire "Once upon a time there was a dragon"
      atlas fire "The cat sat." --sae tiny-a-l1-s0 --top 5 --html cat.html
    """
    from atlas.api import Atlas
    from atlas.disk.atomic_files import atomic_file
    from atlas.errors import BadInput
    from ingest.fire.text_features import FireSettings, check_text, fire, floor_names

    check_text(text)
    if html is not None and not html.parent.is_dir():
        raise BadInput(f"There is no folder {str(html.parent)!r}; create it, or name another file.")
    settings = FireSettings(saes=saes, top=top, device=device)
    with Atlas.open(folder_of(which_atlas(where)), progress=make_progress(quiet=quiet)) as atlas:
        found = fire(atlas, text, settings, model=str(model) if model else None)
        names = [] if atlas.folder is None else floor_names(atlas.folder.sound())
    floors = [name for name in names if not saes and name not in found.tokens]
    if html is not None:
        with atomic_file(html) as temporary:
            temporary.write_text(found.to_html(), "utf-8")

    def show() -> None:
        by_sae = bool(saes) or requested("rows")
        printed = print_features(found, by_sae=by_sae)
        if quiet or not found.rows:
            return
        print_text(about_omitted(found, top=None if by_sae else top), err=True)
        if floors:
            print_text(
                f"Floors are not used unless `--sae` names them: {listed(floors, 3)}.", err=True
            )
        if remark := about_few_active_tokens(printed):
            print_text(remark, err=True)

    emit(list(found.rows), as_json=as_json, show=show, verdict=[found.verdict])
    if html is not None and not as_json:
        echo(str(html))
