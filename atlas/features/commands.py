"""``atlas show``: the card of a feature."""

from pathlib import Path

import click

from atlas.cli.output.text import echo, emit, make_progress
from atlas.cli.selected_atlas import which_atlas
from atlas.cli.shared_options import atlas_option, requested, table_options

__all__ = ["show_feature"]

# Above the number of rows of any table.
_ALL = 1_000_000


@click.command("show")
@click.argument("feature")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the card as one self-contained page, with every token shaded.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100),
    metavar="N",
    help="Rows of each table. [default: one screen; 10 on the page and in JSON; all with --rows]",
)
@atlas_option
@table_options
def show_feature(
    feature: str,
    html: Path | None,
    limit: int | None,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show what an atlas stores about a feature.

    The card has the numbers of the feature with their controls, examples from the complete
    range of activations, its tokens, matches, neighbours, probes and directions. FEATURE
    is SAE/INDEX. By default, most tables are one line; --rows prints all their rows. On a
    terminal with colours, the shade of a token is its activation.

    \b
    Examples:
      atlas show tiny-a-l1-s0/7
      atlas show tiny-a-l1-s0/7 --html feature.html
    """
    from atlas.api import Atlas
    from atlas.disk.atomic_files import atomic_file
    from atlas.errors import BadInput
    from atlas.features.card import feature_card
    from atlas.features.card_screen import print_card

    with Atlas.open(which_atlas(where), progress=make_progress(quiet=quiet)) as atlas:
        complete = requested("rows") and limit is None
        card = feature_card(atlas, feature, limit=None if complete else limit or 10)
    if html is not None:
        if not html.parent.is_dir():
            raise BadInput(
                f"There is no folder {str(html.parent)!r}; create it, or name another file."
            )
        with atomic_file(html) as temporary:
            temporary.write_text(card.to_html(), "utf-8")
    emit(
        card.to_dict() | ({"written": str(html)} if html else {}),
        as_json=as_json,
        show=lambda: print_card(card, rows=_ALL if complete else limit),
    )
    if not (as_json or quiet or complete or limit):
        echo("The first rows of each table; --rows prints all.", err=True)
    if html is not None and not as_json:
        echo(str(html))
