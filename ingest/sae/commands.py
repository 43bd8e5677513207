"""``atlas saes``: the SAEs that can be used by name."""

from typing import Any

import click

from atlas.amounts import counted
from atlas.cli.completion import complete_by
from atlas.cli.output.screen import on_terminal
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, print_text
from atlas.cli.shared_options import requested, table_options

__all__ = ["saes_command"]


@click.command("saes")
@click.argument(
    "search",
    nargs=-1,
    metavar="[WORD]...",
    shell_complete=complete_by("ingest.sae.registry.completion:complete_words"),
)
@click.option("--cached", is_flag=True, help="Only SAEs with weights in the cache of the hub.")
@table_options
def saes_command(search: tuple[str, ...], cached: bool, as_json: bool, quiet: bool) -> None:
    """List the SAEs that can be used by name, or search them.

    Without a WORD, the releases are listed, with their number of SAEs and a short name, where
    {L} is the number of a block. The list is that of the installed sae-lens; the hub is not contacted. `atlas ingest --sae` takes
    the name, the short name, or the Neuronpedia id. A WORD is part of any of these or of the
    name of the model or the site; with several words, all must occur. A WORD also finds the SAEs of
    `atlas demo`, which are included in this program.

    \b
    Examples:
      atlas saes
      atlas saes demo
      atlas saes gpt2 resid_pre
      atlas saes gemma-2-2b canonical 20.hook_resid_post
      atlas saes --cached
    """
    from ingest.sae.registry.known import known_saes, releases, search_saes
    from ingest.sae.registry.names import PATTERNS, models_by_name, search_demo, short_names
    from ingest.sae.registry.suggestions import near_words

    if not search and not cached:
        found = releases(short={pattern.release: pattern.name for pattern in reversed(PATTERNS)})
        emit(found, as_json=as_json, show=lambda: _show_releases(found, quiet=quiet))
        return
    rows = search_saes(" ".join(search), short=short_names(), cached=cached)
    if not cached:
        rows = search_demo(" ".join(search)) + rows

    def show() -> None:
        narrow = on_terminal() and not requested("wide") and len(rows) > 1
        shown = _shown(rows, short=narrow)
        title = "Sites are shown without `blocks.`" if narrow and "site" in shown[0] else ""
        print_table(shown, title=title, unbroken=("sae", "name", "neuronpedia"))
        refused = {row["refused"]: row["name"] for row in reversed(rows) if row["refused"]}
        for reason, name in refused.items():
            print_text(f"Cannot be used, such as {name}: {reason}.")
        if not quiet:
            echo(f"{len(rows):,} SAE{'' if len(rows) == 1 else 's'}", err=True)
            if not rows and not cached:
                texts = {
                    text for one in known_saes() for text in (one.name, one.model, one.neuronpedia)
                }
                models = models_by_name() | {one.release: one.model for one in known_saes()}
                near = near_words(" ".join(search), names=texts | models.keys(), models=models)
                nearest = f" Nearest: {', '.join(near)}." if near else ""
                remark = f"No name has all these words.{nearest} `atlas saes` lists the releases."
                print_text(remark, err=True)

    emit(rows, as_json=as_json, show=show)


def _show_releases(rows: list[dict[str, Any]], *, quiet: bool) -> None:
    """Print the number of SAEs of each release, those with short names first."""
    saes = sum(row["saes"] for row in rows)
    echo(f"{counted(saes, 'SAE')} in {counted(len(rows), 'release')}.")
    unused = {"cached"} - {"cached" for row in rows if row["cached"]}
    print_table(rows, columns=[name for name in rows[0] if name not in unused])
    if not quiet:
        echo(
            "`atlas saes WORD` lists the SAEs with a word, such as a release or a model; `atlas saes "
            "demo` lists those included in this program.",
            err=True,
        )


def _shown(rows: list[dict[str, Any]], *, short: bool) -> list[dict[str, Any]]:
    """Return rows with the short name first, without empty columns and repetitions of the name.

    Parameters
    ----------
    short
        Whether sites are written without ``blocks.``.
    """
    columns = ("site", "width", "l0", "model", "name", "neuronpedia", "cached", "refused")
    table = [
        {"sae": row["short"] or row["name"]}
        | {column: None if row[column] == "" else row[column] for column in columns}
        for row in rows
    ]
    used = [c for c in columns if any(row[c] is not None for row in table)]
    if all(row["sae"] == row["name"] for row in table):
        used = [c for c in used if c != "name"]
    for row in table if short else ():
        row["site"] = row["site"] and row["site"].removeprefix("blocks.")
    return [{column: row[column] for column in ("sae", *used)} for row in table]
