"""Pages with every named query and picture for Neo4j Browser: links, a guide, a file to import.

This module imports the standard library and modules that need nothing else, because
``served_pages`` runs where only Python is installed.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from itertools import count
from string import Template
from typing import Any
from urllib.parse import quote

import queries
from atlas.safe_text import csv_text
from atlas.stores import Graph
from queries.record import TOPICS, Query, parse

__all__ = [
    "PLAIN_NAME",
    "REQUESTED_EDGES",
    "SAVED_COLUMNS",
    "browser_link",
    "example_names",
    "guide",
    "links_page",
    "pictures",
    "saved_cypher",
    "style_sheet",
    "usable_names",
    "with_names",
]

_FILES = resources.files(__package__)

REQUESTED_EDGES = ":config autoComplete: false"
"""A command of Neo4j Browser: draw the edges that a query returns, and no others."""

SAVED_COLUMNS = ("name", "description", "query", "id", "parentId", "isFolder")
"""Columns of a file that the drawer "Saved Cypher" of the newer Browser imports."""

#: A name that can be written between quotes in Cypher.
PLAIN_NAME = re.compile(r"[^'\\\x00-\x1f\x7f]+")


def style_sheet() -> str:
    """Return the style sheet, in the GraSS format of Neo4j Browser."""
    return (_FILES / "atlas.grass").read_text("utf-8")


@cache
def pictures() -> tuple[Query, ...]:
    """Return the queries that draw a graph of at most about 50 nodes, in order.

    Unlike named queries they return paths, so they are for Browser only.
    """
    files = sorted((_FILES / "pictures").iterdir(), key=lambda file: file.name)
    return tuple(
        parse(file.name.removesuffix(".cypher"), file.read_text("utf-8"))
        for file in files
        if file.name.endswith(".cypher")
    )


def browser_link(address: str, command: str) -> str:
    """Return a link that opens a command in the editor of Neo4j Browser.

    Parameters
    ----------
    address
        Address of the server's web page, without a path.
    command
        Cypher, or a command of Browser.

    Examples
    --------
    >>> browser_link("http://localhost:7474", "RETURN 1")
    'http://localhost:7474/browser/?cmd=edit&arg=RETURN%201'
    """
    return f"{address.rstrip('/')}/browser/?cmd=edit&arg={quote(command, safe='')}"


def example_names(graph: Graph) -> dict[str, str]:
    """Return names of an atlas by kind, to replace the examples in queries.

    The kinds are ``SAE``, ``other`` (an SAE it was matched with), ``feature`` (the SAE's median
    by active tokens, among those with a community and a match where there are any), ``site``,
    ``model`` and ``concept``. A kind without a usable name is missing.
    """
    saes = {row["name"]: row for row in graph.tables["SAE"].to_pylist()}
    pairs = graph.tables["COMPARED_WITH"].select(["source", "target"]).to_pylist()
    trained = [name for name, row in saes.items() if row["role"] in (None, "trained")]
    sae = min((p["source"] for p in pairs), default=min(trained or saes, default=None))
    found: dict[str, str | None] = {"SAE": sae}
    found["other"] = min((p["target"] for p in pairs if p["source"] == sae), default=None)
    if sae is not None:
        found |= {
            "feature": _example_feature(graph, sae),
            "model": saes[sae]["model"],
            "site": f"{saes[sae]['model']}/{saes[sae]['hook']}",
        }
    found["concept"] = min(graph.tables["Concept"]["id"].to_pylist(), default=None)
    return usable_names(found)


def usable_names(found: Mapping[str, str | None]) -> dict[str, str]:
    """Return the names that can be written between quotes in Cypher.

    Parameters
    ----------
    found
        Names by kind.

    Examples
    --------
    >>> usable_names({"SAE": "mine", "other": "it's", "model": None})
    {'SAE': 'mine'}
    """
    return {kind: name for kind, name in found.items() if name and PLAIN_NAME.fullmatch(name)}


def _example_feature(graph: Graph, sae: str) -> str | None:
    """Return a feature for which as many pictures as possible have something to draw.

    Features that are active on most tokens are rarely readable, so it is the median of the
    live ones by active tokens, among those with a community, a match and neighbours.
    """
    columns = ["id", "sae", "idx", "active_tokens", "community"]
    own = [r for r in graph.tables["Feature"].select(columns).to_pylist() if r["sae"] == sae]
    paired = {name: _ends(graph, name) for name in ("CO_ACTIVATES", "MATCHES")}

    def drawn(row: dict[str, Any]) -> int:
        has = [row["community"] is not None, *(row["id"] in ends for ends in paired.values())]
        return sum(has) if row["active_tokens"] else -1

    most = max(map(drawn, own), default=0)
    best = [row for row in own if drawn(row) == most]
    best.sort(key=lambda row: (row["active_tokens"] or 0, row["idx"]))
    chosen: str | None = best[len(best) // 2]["id"] if best else None
    return chosen


def _ends(graph: Graph, edges: str) -> set[str]:
    """Return the keys of both ends of all edges of a type."""
    rows = graph.tables[edges]
    return {*rows["source"].to_pylist(), *rows["target"].to_pylist()}


def with_names(query: Query, names: Mapping[str, str]) -> str:
    """Return the text of a query with the names of an atlas in place of its examples.

    Parameters
    ----------
    query
        A named query or a picture.
    names
        Names by kind, as ``example_names`` returns them.
    """
    text = query.text
    second = {pair[1] for pair in query.matched}
    for parameter in query.parameters:
        other = parameter.name in second and parameter.names == "SAE"
        kind = "other" if other else parameter.names
        name = names.get(kind or "")
        if parameter.required and parameter.type == "string" and name is not None:
            marked = re.compile(rf"'[^'\\]*' /\* \${parameter.name} \*/")
            # Neither a name nor a parameter contains a backslash, which `sub` would read.
            text = marked.sub(f"'{name}' /* ${parameter.name} */", text)
    return text


def saved_cypher(*, atlas: str, names: Mapping[str, str]) -> str:
    """Return all pictures and named queries as CSV for the drawer "Saved Cypher" of the newer Browser.

    The pictures are in one folder, and the queries in one for each topic.

    Parameters
    ----------
    atlas
        Name of the atlas, which precedes the names of folders.
    names
        Names by kind, as ``example_names`` returns them.

    Examples
    --------
    >>> print(saved_cypher(atlas="mine", names={}).splitlines()[1])
    mine: Pictures,,,0,,true
    """
    number = count()
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(SAVED_COLUMNS)
    for folder, members in _folders().items():
        parent = next(number)
        writer.writerow([csv_text(f"{atlas}: {folder}"), "", "", parent, "", "true"])
        for query in members:
            text = with_names(query, names)
            writer.writerow([query.title, query.question, text, next(number), parent, "false"])
    return file.getvalue()


def links_page(address: str, *, atlas: str, names: Mapping[str, str]) -> str:
    """Return an HTML page with a link for each setting, each picture and each named query.

    Parameters
    ----------
    address
        Address of the server's web page, without a path.
    atlas
        Name of the atlas, for the title.
    names
        Names by kind, as ``example_names`` returns them.
    """
    sections = []
    for title, found in (("Pictures", pictures()), ("Tables", queries.every())):
        links = (
            f'<li><a href="{escape(browser_link(address, with_names(query, names)))}">'
            f"{escape(query.title)}</a><small>{escape(query.question)}</small></li>"
            for query in found
        )
        sections.append("\n".join([f"<h2>{title}</h2>", "<ul>", *links, "</ul>"]))
    return _template("links.html").substitute(
        address=escape(address.rstrip("/")),
        atlas=escape(atlas),
        style=escape(browser_link(address, f":style {style_sheet()}")),
        edges=escape(browser_link(address, REQUESTED_EDGES)),
        sections="\n".join(sections),
    )


def guide(names: Mapping[str, str]) -> str:
    """Return a guide of Browser 5.24, with a slide for the pictures and one for each topic.

    A click on a title writes the query into the editor.

    Parameters
    ----------
    names
        Names by kind, as ``example_names`` returns them.
    """
    slides = []
    for folder, members in _folders().items():
        items = (
            f'<p><a data-populate="{escape(with_names(query, names))}">{escape(query.title)}</a>'
            f"<br>{escape(query.question)}</p>"
            for query in members
        )
        begin = f'<slide><div class="col-sm-12"><h3>{escape(folder)}</h3>'
        slides.append("\n".join([begin, *items, "</div></slide>"]))
    return _template("guide.html").substitute(slides="\n".join(slides))


def _template(name: str) -> Template:
    return Template((_FILES / name).read_text("utf-8"))


def _folders() -> dict[str, Sequence[Query]]:
    """Return the pictures, and the named queries by topic; no folder is empty."""
    folders: dict[str, Sequence[Query]] = {"Pictures": pictures()}
    for topic in TOPICS:
        folders[topic] = [query for query in queries.every() if query.topic == topic]
    return {folder: members for folder, members in folders.items() if members}
