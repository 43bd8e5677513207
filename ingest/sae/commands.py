"""``atlas saes``: the SAEs that can be used by name."""

from typing import Any

import click

from atlas.cli.output import echo, emit, print_table, shared_options

__all__ = ["saes_command"]


@click.command("saes")
@click.argument("search", nargs=-1, metavar="[WORD]...")
@click.option("--cached", is_flag=True, help="Only SAEs in the cache of the hub on this machine.")
@shared_options
def saes_command(search: tuple[str, ...], cached: bool, as_json: bool, quiet: bool) -> None:
    """List the SAEs that can be used by name, or search them.

    The list is that of the installed sae-lens; the hub is not asked. `atlas ingest --sae` takes
    the name, the short name, or the Neuronpedia id. A WORD is part of any of these or of the
    name of the model; with several words, all must occur.

    \b
    Examples:
      atlas saes gpt2 resid_pre
      atlas saes gemma-2-2b canonical 16k
      atlas saes --cached
    """
    from ingest.sae.loading import short_names
    from ingest.sae.registry import search_saes

    rows = search_saes(" ".join(search), short=short_names(), cached=cached)

    def show() -> None:
        print_table([_shown(row) for row in rows])
        if not quiet:
            echo(f"{len(rows):,} SAE{'' if len(rows) == 1 else 's'}", err=True)

    emit(rows, as_json=as_json, show=show)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Show the short name instead of the long one where there is one."""
    return {"sae": row["short"] or row["name"]} | {
        column: row[column] for column in ("l0", "width", "model", "neuronpedia", "cached")
    }
