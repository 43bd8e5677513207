"""The reference of commands and named queries, written from the code when the site is built."""

from importlib import import_module
from pathlib import Path

import click

import queries
from atlas.cli.main import command

__all__ = ["commands_page", "python_page", "queries_page", "write"]

FOLDER = Path(__file__).resolve().parents[1] / "generated"


def write(app):
    """Write the pages; pages that are equal already stay as they are."""
    FOLDER.mkdir(exist_ok=True)
    pages = {"commands": commands_page, "queries": queries_page, "python": python_page}
    for name, make in pages.items():
        text = make()
        page = FOLDER / f"{name}.md"
        if not page.exists() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")


def commands_page():
    """Return the page of all commands, by the sections of ``atlas --help``."""
    group = command()
    lines = [
        "# Commands",
        "",
        "This page lists every command with its options, as `atlas COMMAND --help` prints them.",
        "",
    ]
    for section, listed in group.sections.items():
        if listed:
            lines += [f"## {section}", ""]
            for each in sorted(listed, key=lambda c: str(c.name)):
                lines += _command(f"atlas {each.name}", each)
    return "\n".join(lines)


def _command(name, of):
    if isinstance(of, click.Group):
        rows = [_command(f"{name} {key}", each) for key, each in sorted(of.commands.items())]
        first = [f"### {name}", "", of.get_short_help_str(200), ""]
        return first + [line for row in rows for line in row]
    context = click.Context(of, info_name=name, terminal_width=88, max_content_width=88)
    return [f"### {name}", "", "```text", of.get_help(context).rstrip(), "```", ""]


def queries_page():
    """Return the page of all named queries."""
    lines = [
        "# Named queries",
        "",
        "This page lists the named queries. `atlas query NAME` runs one, and `atlas.ask(NAME)` does",
        "so in Python. The same files run in Neo4j Browser ([how](../neo4j-browser.md)).",
        "",
    ]
    for name in queries.names():
        query = queries.get(name)
        lines += [f"## {name}", "", query.question, ""]
        if query.parameters:
            lines += ["| parameter | type | default | meaning |", "|---|---|---|---|"]
            lines += [
                f"| `{p.name}` | {p.names or p.type} | {_default(p)} | {_cell(p.meaning)} |"
                for p in query.parameters
            ]
            lines.append("")
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{c.name}` | {c.type} | {_cell(c.meaning)} |" for c in query.columns]
        lines += [
            "",
            "```cypher",
            query.text.split("\n", _header(query.text))[-1].rstrip(),
            "```",
            "",
        ]
    return "\n".join(lines)


def _default(parameter):
    return (
        f"required, such as `{parameter.example}`"
        if parameter.required
        else f"`{parameter.example}`"
    )


def _cell(text):
    return text.replace("|", "\\|")


def _header(text):
    """Return the number of lines of comments before the query."""
    lines = text.split("\n")
    return next(i for i, line in enumerate(lines) if not line.startswith("//"))


#: The Python interface by section: title, a sentence, and names of objects.
def _interface():
    import analysis
    import ingest

    return (
        (
            "Read an atlas",
            "`atlas.Atlas` opens an atlas. An SAE and a feature of it are objects.",
            ["atlas.Atlas", "atlas.features.sae_view.SaeView", "atlas.features.card.FeatureCard"],
        ),
        (
            "Results",
            "Every study returns results: a verdict, a summary, tables and a plot.",
            ["atlas.studies.results.Result", "atlas.studies.results.Results"],
        ),
        (
            "Compute an atlas",
            "The package `ingest` runs models and SAEs, trains SAEs, and fits probes.",
            [f"ingest.{name}" for name in sorted(ingest.__all__, key=str.lower)],
        ),
        (
            "Study an atlas",
            "The package `analysis` has one function for each study, its settings, and functions of "
            "plain graphs and arrays. It also exports `match_saes` and `probe_saes` of `ingest`.",
            [
                f"analysis.{name}"
                for name in sorted(analysis.__all__, key=str.lower)
                if name not in ingest.__all__
            ],
        ),
    )


def python_page():
    """Return the page of the Python interface; autodoc fills it from the docstrings."""
    lines = ["# Python interface", "", "This page lists what to import.", ""]
    for title, sentence, names in _interface():
        lines += [f"## {title}", "", sentence, ""]
        for name in names:
            module, _, attribute = name.rpartition(".")
            of = getattr(import_module(module), attribute)
            kind = "autoclass" if isinstance(of, type) else "autofunction"
            lines += [f"### {attribute}", "", "```{eval-rst}", f".. {kind}:: {name}", "```", ""]
    return "\n".join(lines)
