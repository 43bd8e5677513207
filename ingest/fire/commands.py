"""``atlas fire``: the strongest features on each token of a typed text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from atlas.amounts import counted, listed
from atlas.cli.output import (
    atlas_option,
    echo,
    emit,
    folder_of,
    make_progress,
    print_table,
    requested,
    shared_options,
    which_atlas,
    wrap,
)

__all__ = ["about_few_active_tokens", "fire_command"]

_COLUMNS = ("feature", "activation", "quantile", "top_token")

# Active tokens below which a quantile gets a remark: one token changes it by more than 5%.
_FEW_TOKENS = 20


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
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write one self-contained page, with every token shaded.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@atlas_option
@shared_options
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
    table for each SAE.

    Activations equal those that an ingest of this text would store. Features are ranked by
    quantile: the share of a feature's activations in the corpus that are at most as large.

    \b
    Examples:
      atlas fire "Once upon a time there was a dragon"
      atlas fire "The cat sat." --sae tiny-a-l1-s0 --top 5 --html cat.html
    """
    from atlas.api import Atlas
    from atlas.disk.atomic_files import atomic_file
    from atlas.errors import BadInput
    from ingest.fire.text_features import FireSettings, check_text, fire

    check_text(text)
    if html is not None and not html.parent.is_dir():
        raise BadInput(f"There is no folder {str(html.parent)!r}; create it, or name another file.")
    settings = FireSettings(saes=saes, top=top, device=device)
    with Atlas.open(folder_of(which_atlas(where)), progress=make_progress(quiet=quiet)) as atlas:
        found = fire(atlas, text, settings, model=str(model) if model else None)
    if html is not None:
        with atomic_file(html) as temporary:
            temporary.write_text(found.to_html(), "utf-8")

    def show() -> None:
        if not found.rows:
            echo("No feature is active on this text.")
            return
        echo(wrap(_verdict(found.rows)))
        if saes or requested("rows"):
            shown = _show_by_sae(found.rows)
        else:
            shown = _show_strongest(found.rows)
            if not quiet:
                echo(
                    f"The strongest feature on each token. --rows shows {top} of each SAE.",
                    err=True,
                )
        if not quiet and (remark := about_few_active_tokens(shown)):
            echo(wrap(remark), err=True)

    emit(list(found.rows), as_json=as_json, show=show)
    if html is not None and not as_json:
        echo(str(html))


def _order(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return the key by which features are ranked, the strongest last."""
    quantile = -1.0 if row["quantile"] is None else row["quantile"]
    return quantile, row["activation"]


def _verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the sentence about the strongest feature of the text."""
    best = max(rows, key=_order)
    saes = {row["sae"] for row in rows}
    tokens: dict[str, set[int]] = {}
    for row in rows:
        tokens.setdefault(row["model"], set()).add(row["position"])
    several = len(tokens) > 1
    each = [
        counted(len(at), "token") + (f" of {model}" if several else "")
        for model, at in tokens.items()
    ]
    size = f"{counted(len(saes), 'SAE')}; {' and '.join(each)} with active features."
    token = f"on the token {best['token']!r}"
    if best["quantile"] is None:
        return f"{size} The strongest feature is {best['feature']}, {token}."
    few = best["active_tokens"] is not None and best["active_tokens"] < _FEW_TOKENS
    number = counted(best["active_tokens"], "activation") if few else "activations"
    return (
        f"{size} The strongest feature is {best['feature']}, {token}: higher than {best['quantile']:.1%} "
        f"of its {number} in the corpus."
    )


def about_few_active_tokens(rows: Sequence[Mapping[str, Any]]) -> str:
    """Name the features whose quantile is computed from few tokens; empty if there are none.

    Parameters
    ----------
    rows
        Rows of ``TextFeatures``.

    Examples
    --------
    >>> about_few_active_tokens([{"feature": "a/1", "quantile": 1.0, "active_tokens": 3}])
    'Quantiles from fewer than 20 active tokens are not reliable: a/1 (3 tokens).'
    """
    few = {
        row["feature"]: row["active_tokens"]
        for row in rows
        if row["quantile"] is not None
        and row["active_tokens"] is not None
        and row["active_tokens"] < _FEW_TOKENS
    }
    if not few:
        return ""
    ordered = sorted(few.items(), key=lambda one: one[1])
    names = [f"{name} ({counted(tokens, 'token')})" for name, tokens in ordered]
    return (
        f"Quantiles from fewer than {_FEW_TOKENS} active tokens are not reliable: "
        f"{listed(names, 3)}."
    )


def _show_strongest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Print and return a row for each token: the strongest feature over all SAEs of the model."""
    printed: list[Mapping[str, Any]] = []
    models = list(dict.fromkeys(row["model"] for row in rows))
    for model in models:
        found: dict[int, Mapping[str, Any]] = {}
        for row in rows:
            at = row["position"]
            if row["model"] == model and (at not in found or _order(row) > _order(found[at])):
                found[at] = row
        shown = [{c: row[c] for c in ("token", *_COLUMNS)} for _, row in sorted(found.items())]
        if len(models) > 1:
            echo()
        print_table(shown, title=f"Model {model}" if len(models) > 1 else "")
        printed += found.values()
    return printed


def _show_by_sae(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Print a table for each SAE, with all its rows; return the rows."""
    for name in dict.fromkeys(row["sae"] for row in rows):
        shown: list[dict[str, Any]] = []
        last = -1
        for row in (r for r in rows if r["sae"] == name):
            repeated = row["position"] == last
            last = row["position"]
            shown.append(
                {"token": "" if repeated else row["token"], **{c: row[c] for c in _COLUMNS}}
            )
        echo()
        print_table(shown, title=name)
    return rows
