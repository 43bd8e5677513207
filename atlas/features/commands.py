"""``atlas show``: the card of a feature."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from atlas.amounts import cell_text
from atlas.cli.output import (
    atlas_option,
    echo,
    emit,
    make_progress,
    print_table,
    print_verdict,
    shared_options,
    which_atlas,
    wrap,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atlas.features.card import Example, FeatureCard
    from atlas.features.numbers import FeatureNumber

__all__ = ["show_feature"]

# Characters of an example around its sampled token on a terminal.
_AROUND = 32
# Numbers that the first sentence of the verdict states.
_IN_VERDICT = ("active_tokens", "frequency")
_BLOCKS = "▁▂▃▄▅▆▇█"


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
    help="Rows of each table. [default: 3 on the screen, 10 on the page and in JSON]",
)
@atlas_option
@shared_options
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
    range of activations, its tokens, counterparts, neighbours, probes and directions. FEATURE
    is SAE/INDEX.

    \b
    Examples:
      atlas show tiny-a-l1-s0/7
      atlas show tiny-a-l1-s0/7 --html feature.html
    """
    from atlas.api import Atlas
    from atlas.disk.atomic_files import atomic_file
    from atlas.errors import BadInput
    from atlas.features.card import feature_card

    with Atlas.open(which_atlas(where), progress=make_progress(quiet=quiet)) as atlas:
        card = feature_card(atlas, feature, limit=max(limit or 10, 10))
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
        show=lambda: _print(card, limit or 3),
    )
    if html is not None and not as_json:
        echo(str(html))


def _print(card: "FeatureCard", limit: int) -> None:
    print_verdict(card.verdict)
    if card.neuronpedia:
        echo(card.neuronpedia)
    _print_numbers(card.numbers)
    if card.histogram:
        first, last = card.histogram[0], card.histogram[-1]
        most = max(row["count"] for row in card.histogram)
        bars = "".join(_BLOCKS[(len(_BLOCKS) - 1) * row["count"] // most] for row in card.histogram)
        echo(f"\nActivations, in bins from {first['lower']:.3g} to {last['upper']:.3g}:  {bars}")
    shown = {"top": limit}
    if card.examples:
        echo("\nExamples, with the sampled token in brackets, and its activation:")
    for one in card.examples:
        if shown.setdefault(one.kind, 1):
            shown[one.kind] -= 1
            echo(f"  {one.kind:8} {one.activation:8.3g}  {_passage(one)}")
    for table in card.tables:
        echo()
        more = f" ({limit:,} of {table.row_count:,})" if table.row_count > limit else ""
        print_table(table.shown_rows()[:limit], title=f"{table.title}{more}", spaced=True)
    if card.none:
        echo(f"\nStored, without a row of this feature: {'; '.join(card.none)}.")
    if card.empty:
        echo("\nNot stored:")
        for title, command in card.empty.items():
            echo(f"  {title} ({command})")


def _print_numbers(numbers: "Sequence[FeatureNumber]") -> None:
    """Print the numbers on a few lines, each with its controls and its rank."""
    shown = []
    for one in numbers:
        if one.name in _IN_VERDICT:
            continue
        controls = [f"{what} {cell_text(value)}" for what, value in one.controls.items()]
        if one.share_below is not None:
            controls.append(f"above {one.share_below:.0%}")
        notes = f" ({'; '.join(controls)})" if controls else ""
        shown.append(f"{one.name.replace('_', ' ')} {cell_text(one.value, one.name)}{notes}")
    if shown:
        echo(
            f"\n{wrap('Numbers (above N%: of the live features of the SAE): ' + ', '.join(shown))}"
        )


def _passage(example: "Example") -> str:
    """Return the text around the sampled token on one line, with that token in brackets."""
    before = "".join(example.tokens[: example.peak]).replace("\n", "⏎")
    after = "".join(example.tokens[example.peak + 1 :]).replace("\n", "⏎")
    peak = example.tokens[example.peak].replace("\n", "⏎")
    return f"{before[-_AROUND:]}[{peak}]{after[: _AROUND // 2]}"
