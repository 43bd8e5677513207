"""``atlas mcp``: serve an atlas to an assistant."""

import click

from atlas.cli.output.text import echo
from atlas.cli.query_command import complete_query
from atlas.cli.selected_atlas import which_atlas
from atlas.cli.shared_options import atlas_option, finite

__all__ = ["mcp"]


@click.command()
@click.option(
    "--only",
    multiple=True,
    metavar="QUERY",
    shell_complete=complete_query,
    help="Offer only this named query, next to the cards; repeat for several. [default: all]",
)
@click.option("--no-cypher", is_flag=True, help="Do not offer the tool for read-only Cypher.")
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    callback=finite,
    help="Time limit of a query or a card in seconds.",
)
@atlas_option
@click.option("--json", "as_json", is_flag=True, help="Print an error at the start as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="Print no remarks.")
def mcp(
    only: tuple[str, ...],
    no_cypher: bool,
    timeout: float,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Serve an atlas to an assistant, read-only (MCP).

    The server speaks the Model Context Protocol. The assistant starts this command and talks
    to it on standard input and output. It gets the named queries as tools, cards of SAEs and
    features, and read-only Cypher. With --json, an error at the start is JSON. The command needs
    `pip install 'feature-atlas[mcp]'`.

    \b
    Examples:
      claude mcp add demo -- atlas mcp --atlas /data/demo.atlas
      atlas mcp --atlas neo4j://localhost --only feature_card --no-cypher
    """
    from importlib.metadata import version

    from atlas.api import Atlas
    from atlas.assistant.server import all_tools, check_sdk, serve
    from atlas.stores import Limits

    check_sdk()
    Limits(timeout=timeout)  # report a wrong limit now, not at the first call
    url = which_atlas(where)
    tools = all_tools(lambda: Atlas.open(url), timeout=timeout, only=only, cypher=not no_cypher)
    with Atlas.open(url) as atlas:  # report a wrong path or login now, not at the first call
        atlas.saes  # noqa: B018
    if not quiet:
        echo(
            f"Serving {url} with {len(tools)} tools; requests of a client arrive on standard input.",
            err=True,
        )
    serve(tools, version=version("feature-atlas"))
