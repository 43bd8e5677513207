"""Commands that list, query, push, export, remove and check an atlas."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from atlas.amounts import counted, listed
from atlas.assistant.commands import mcp
from atlas.cli.output.screen import on_terminal
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_text
from atlas.cli.query_command import QueryCommand, complete_query
from atlas.cli.selected_atlas import atlases_here, folder_of, which_atlas
from atlas.cli.shared_options import atlas_option, finite, plain_options, table_options
from atlas.errors import AtlasError, BadInput
from atlas.features.commands import show_feature
from atlas.features.overview import print_saes
from atlas.plugins import Check, Room
from queries import Query

__all__ = ["ROOM"]


# Columns of answers that name a feature next to its id, the other of a pair, and the SAE of a floor.
_NAMING = ("top_token", "token_a", "feature_b", "token_b", "floor_of")

# Answers about matches: a correlation is never printed without its strictest null and q, and tokens
# are omitted before these are.
_MATCH_CONTROLS = {
    "pearson": ("token_document_null_pearson", "token_document_q"),
    "token_null_pearson": (),  # of a weaker null: a column of its own
}
_MATCH_NAMING = ("top_token", "feature_b")


@click.command("list")
@click.argument("path", required=False, metavar="[PATH|URL]")
@atlas_option
@table_options
def list_(path: str | None, where: str | None, as_json: bool, quiet: bool) -> None:
    """List the SAEs of an atlas with their main numbers.

    l0: mean number of active features per token. fvu: share of the variance that the
    reconstruction does not explain. dead_share: share of features that are active on no token.
    A floor shows what an SAE reaches without training, or without a part of it.

    \b
    Example:
      atlas list
      atlas list demo.atlas
      atlas list --atlas neo4j://localhost --json
    """
    from atlas.api import Atlas

    _one_atlas(path, where)
    if path and not where and "://" not in path and not Path(path).exists() and atlases_here():
        raise BadInput(
            f"There is no atlas at {path}. `atlas list` takes the folder of an atlas, such as "
            f"{atlases_here()[0]}; `atlas show SAE/INDEX` shows a feature of an SAE."
        )
    with Atlas.open(which_atlas(path or where)) as atlas:
        rows = [{"sae": r.pop("name"), **r} for r in atlas.table("SAE").sort_by("name").to_pylist()]
        models = {r["name"] for r in atlas.table("Model").to_pylist()}
        alone = sorted(models - {r["model"] for r in rows})

        def show() -> None:
            print_saes(atlas)
            if not quiet and not rows:
                echo("This atlas has no SAE; add one with `atlas ingest`.", err=True)
            if not quiet and alone:
                echo(f"Models that no SAE of this atlas reads: {', '.join(alone)}.", err=True)

        emit(rows, as_json=as_json, show=show)


@click.command(cls=QueryCommand)
@click.argument("words", nargs=-1, metavar="[NAME|WORD]...", shell_complete=complete_query)
@click.option(
    "--param",
    "-p",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter: of --cypher, or of a named query, which also has options (--limit 5).",
)
@click.option(
    "--cypher", "-c", help="A read-only Cypher query of your own, instead of a named query."
)
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    callback=finite,
    help="Time limit of the query in seconds.",
)
@click.option(
    "--max-rows",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="Maximum number of rows for --cypher.",
)
@click.option(
    "--memory",
    type=click.IntRange(64),
    default=2048,
    show_default=True,
    metavar="MIB",
    help="Memory limit for --cypher.",
)
@atlas_option
@table_options
def query(
    words: tuple[str, ...],
    params: tuple[str, ...],
    cypher: str | None,
    timeout: float,
    max_rows: int,
    memory: int,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Run a named query or your own Cypher on an atlas.

    Without NAME and --cypher, list the named queries by topic; with a WORD that is no name,
    those that contain it. `atlas query NAME --help` shows the parameters and the columns of a
    query. In a parameter of a named query, ␣ stands for a space, as in the table of
    `atlas communities`.

    \b
    Examples:
      atlas query
      atlas query counterpart
      atlas query feature_card --feature tiny-a-l1-s0/7
      atlas query features_of_tokens --tokens "he she"
      atlas query --cypher 'MATCH (f:Feature) WHERE f.dead RETURN count(f) AS n'
      atlas query --cypher 'MATCH (f:Feature {id: $id}) RETURN f.frequency' \\
        --param id=tiny-a-l1-s0/7
    """
    from atlas.cli.query_arguments import list_questions, marked, read_question, remarks
    from atlas.cli.query_command import named_query, values_of

    asked = named_query(click.get_current_context())
    if cypher is None and not params and (asked is None or len(words) > 1):
        list_questions(" ".join(words), as_json=as_json)
        return
    name = " ".join(words) or None
    question = read_question(name, cypher, params, options=values_of(options, asked))
    from atlas.api import Atlas
    from atlas.stores import Limits

    progress = make_progress(quiet=quiet)
    with Atlas.open(which_atlas(where), progress=progress) as atlas:
        limits = Limits(timeout=timeout, memory=memory << 20, rows=max_rows)
        answer = atlas.answer(question, limits=limits)
        notes = [] if quiet else remarks(atlas, question, answer.num_rows)
    rows = answer.to_pylist()

    def show() -> None:
        of_matches = bool(rows) and rows[0].keys() >= {*_MATCH_CONTROLS["pearson"]}
        print_table(
            [marked(row) for row in rows],
            keys=(*(_MATCH_NAMING if of_matches else _NAMING), *(asked.answer if asked else ())),
            controls=_MATCH_CONTROLS if of_matches else None,
            folded=True,
        )
        for note in notes:
            print_text(note, err=True)
        if asked and rows and not quiet:
            for note in _legend(asked, question.params):
                print_text(note, err=True)

    emit(rows, as_json=as_json, show=show)


def _legend(query: Query, params: Mapping[str, Any]) -> list[str]:
    """Return the texts that the column ``found`` counts, and on a terminal where columns are defined."""
    texts: Any = next((params[p.name] for p in query.parameters if p.type == "string[]"), [])
    notes = []
    if texts and any(column.name == "found" for column in query.columns):
        named = listed([repr(text) for text in texts], 10)
        notes.append(
            f"found: how many of these {counted(len(texts), 'text')} are tokens of the feature: {named}."
        )
    if on_terminal():
        notes.append(f"`atlas query {query.name} --help` defines the columns.")
    return notes


def _confirm_removal(keys: Sequence[str], path: Path) -> None:
    """List the parts, and ask whether they are removed."""
    echo(f"{counted(len(keys), 'part')} of {path}:", err=True)
    print_text(", ".join(keys), indent="  ", err=True)
    try:
        confirmed = click.confirm("Remove?", err=True)
    except click.Abort:
        confirmed = False
        echo(err=True)
    if not confirmed:
        raise AtlasError("Nothing was removed. To remove without this question, add --yes.")


@click.command()
@click.argument("saes", nargs=-1, required=True, metavar="{SAE | KIND/NAME}...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@atlas_option
@table_options
def rm(saes: tuple[str, ...], yes: bool, where: str | None, as_json: bool, quiet: bool) -> None:
    """Remove SAEs from an atlas, with their parts and codes.

    Removing the last SAE of a model also removes the maps of that model. To remove maps of
    a model that no SAE reads, name them as KIND/NAME, where * matches any text. The command
    lists all parts and asks for confirmation before it removes them.

    \b
    Examples:
      atlas rm tiny-a-l1-wide
      atlas rm 'transcoder/tiny-random@*'
    """
    from atlas.disk.remove import alone, remove_saes, touching

    path = folder_of(which_atlas(where))
    keys = touching(path, saes)
    if not yes:
        _confirm_removal(keys, path)
    removed = remove_saes(path, saes)
    remaining = alone(path)
    emit(
        {"removed": removed, "remaining": remaining},
        as_json=as_json,
        show=lambda: echo(f"Removed {', '.join(removed)}."),
    )
    if remaining and not quiet:
        echo(
            f"No SAE remains. The atlas still has {counted(len(remaining), 'part')} about models: {', '.join(remaining)}.",
            err=True,
        )


@click.command()
@click.argument("url", envvar="NEO4J_URI")
@click.option("--username", envvar="NEO4J_USERNAME", show_envvar=True, help="Default: neo4j.")
@click.option(
    "--password", envvar="NEO4J_PASSWORD", show_envvar=True, help="Prefer the environment variable."
)
@click.option("--database", help="Database of the server.")
@click.option(
    "--as",
    "names",
    multiple=True,
    metavar="SAE=NAME",
    help="Push SAE under another name; repeat this option at every push.",
)
@click.option(
    "--edges-per-feature",
    type=click.IntRange(min=0),
    metavar="N",
    help="Push only CO_ACTIVATES edges that are among the N heaviest of one of their features, "
    "for small servers; repeat this option at every push.",
)
@click.option(
    "--fit",
    type=click.Choice(["aura-free"]),
    help="Push only the edges and examples that fit on this service; repeat this option at every push.",
)
@click.option("--dry-run", is_flag=True, help="Report the changes without writing them.")
@atlas_option
@plain_options
def push(
    url: str,
    username: str | None,
    password: str | None,
    database: str | None,
    names: tuple[str, ...],
    edges_per_feature: int | None,
    fit: str | None,
    dry_run: bool,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Update a Neo4j server to the contents of an atlas.

    Only SAEs that differ are written, one at a time. During a push, readers see either
    the old or the new version of an SAE, never a mixture. To finish an interrupted push,
    run the same command again. `atlas export --for neo4j-admin` loads a large atlas into
    a new database several times faster.

    \b
    Examples:
      NEO4J_PASSWORD=… atlas push neo4j://localhost
      atlas push neo4j://localhost --edges-per-feature 20
      atlas push neo4j+s://….databases.neo4j.io --fit aura-free
    """
    from atlas.push import push_atlas

    done = push_atlas(
        folder_of(which_atlas(where)),
        url,
        username=username,
        password=password,
        database=database,
        names=names,
        edges_per_feature=edges_per_feature,
        fit=fit,
        dry_run=dry_run,
        progress=make_progress(quiet=quiet),
    )

    def show() -> None:
        would = "would be " if dry_run else ""
        for verb in ("added", "replaced", "removed"):
            if done[verb]:
                echo(f"{would}{verb}: {', '.join(done[verb])}")
        if done["shared"]:
            echo(f"{would}replaced: edges between shared nodes, such as maps between sites")
        if not any(done[verb] for verb in ("added", "replaced", "removed", "shared")):
            echo("The server is up to date with this atlas.")
        if not dry_run and not quiet:
            print_text(f"Open {done['browser']} for Neo4j Browser, and run first:", err=True)
            echo(f"  {done['first_query']}", err=True)
            print_text(
                "`atlas export browser --for neo4j-browser` writes all queries and pictures.",
                err=True,
            )

    emit(done, as_json=as_json, show=show)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    default="parquet",
    show_default=True,
    type=click.Choice(["parquet", "csv", "graphml", "gexf"]),
    help="File format: tables as Parquet or CSV, or co-activation graphs as GraphML or GEXF.",
)
@click.option(
    "--sae",
    "saes",
    multiple=True,
    metavar="SAE",
    help="With --format graphml or gexf: only the graph of this SAE; repeat for several SAEs.",
)
@click.option(
    "--min-count",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="With --format graphml or gexf: only edges with a count of at least N tokens.",
)
@click.option(
    "--for",
    "reader",
    type=click.Choice(["neo4j-admin", "neo4j-browser"]),
    help="Write files and a script for `neo4j-admin database import`, or a page of links that open the "
    "style sheet, pictures and named queries in Neo4j Browser.",
)
@click.option(
    "--address",
    default="http://localhost:7474",
    show_default=True,
    help="With --for neo4j-browser: the web page of the server.",
)
@atlas_option
@table_options
def export(
    folder: Path,
    form: Literal["parquet", "csv", "graphml", "gexf"],
    saes: tuple[str, ...],
    min_count: int,
    reader: str | None,
    address: str,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the tables of the graph to a folder.

    There is one file for each kind of node and edge.

    In CSV, lists are written as JSON. GraphML and GEXF files, for Gephi, Cytoscape and other
    programs, contain the co-activation graph of one SAE each. With --for neo4j-admin, the
    command also writes `import.sh`, which imports the files into a Neo4j database. This is the
    fastest way to load a large atlas, and the database equals the result of a push.

    \b
    Examples:
      atlas export tables --format csv
      atlas export graphs --format gexf --sae tiny-a-l1-s0 --min-count 5
      atlas export browser --for neo4j-browser
      atlas export import --for neo4j-admin && sh import/import.sh neo4j
    """
    from atlas.export import (
        export_for_browser,
        export_for_import,
        export_graphs,
        export_tables,
    )

    progress = make_progress(quiet=quiet)
    if form == "graphml" or form == "gexf":
        if reader:
            raise click.UsageError(f"--for {reader} has its own formats; omit --format.")
        graphs = export_graphs(
            which_atlas(where), folder, form=form, saes=saes, min_count=min_count, progress=progress
        )
        rows = [{"graph": name, **sizes} for name, sizes in graphs.items()]
        emit(graphs, as_json=as_json, show=lambda: print_table(rows))
        return
    if saes or min_count > 1:
        raise click.UsageError("--sae and --min-count require --format graphml or gexf.")
    if reader is None:
        written = export_tables(which_atlas(where), folder, form=form, progress=progress)
    elif form != "parquet":
        raise click.UsageError(f"--for {reader} has its own formats; omit --format.")
    elif reader == "neo4j-browser":
        links = export_for_browser(folder_of(which_atlas(where)), folder, address=address)
        emit(
            links,
            as_json=as_json,
            show=lambda: echo(
                f"Browser 5.24: open {folder / 'index.html'}, {links['index.html']} links.\n"
                f"Newer Browser: import {folder / 'saved-cypher.csv'} in its drawer Saved Cypher."
            ),
        )
        return
    else:
        written = export_for_import(folder_of(which_atlas(where)), folder, progress=progress)

    def show() -> None:
        echo(f"{counted(len(written), 'table')} in {folder}.")
        print_table([{"table": n, "rows": r} for n, r in written.items()])

    emit(written, as_json=as_json, show=show)


@click.command()
@click.argument("path", required=False, metavar="[PATH|URL]")
@atlas_option
@table_options
@click.pass_context
def doctor(
    ctx: click.Context, path: str | None, where: str | None, as_json: bool, quiet: bool
) -> None:
    """Check the installation, the server and an atlas.

    Every fault is reported with its remedy.

    The exit status is 1 if there is a fault.

    \b
    Example:
      atlas doctor demo.atlas
    """
    from atlas.doctor import examine, print_checks

    checks = examine(_one_atlas(path, where))
    sound = all(c.state != "fault" for c in checks)
    emit(
        [
            {"about": c.about, "state": c.state, "message": c.message, "remedy": c.remedy}
            for c in checks
        ],
        as_json=as_json,
        show=lambda: print_checks(checks, faults_only=quiet),
        ok=sound,
    )
    ctx.exit(0 if sound else 1)


def _one_atlas(path: str | None, where: str | None) -> str | None:
    """Return the atlas that is named as an argument or as an option."""
    if path and where and path != where:
        raise BadInput(f"Two atlases are named, {path} and {where}; name one.")
    return path or where


def _checks(path: Path | None) -> "list[Check]":
    from atlas.doctor import checks

    return list(checks(path))


ROOM = Room(
    "atlas",
    {
        "Inspect": (list_, query, show_feature),
        "Share and maintain": (push, export, mcp, rm, doctor),
    },
    _checks,
)
