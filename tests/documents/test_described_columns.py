"""Pages describe the columns of all studies, the schema its properties, and each query its columns."""

import importlib
import pkgutil
import re
from pathlib import Path

import pyarrow as pa
import pytest

import analysis
import queries
from atlas.schema import TABLES

DOCS = Path(__file__).parents[2] / "docs"


def schemas(value):
    """Yield the schemas in a value of a module."""
    if isinstance(value, pa.Schema):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from schemas(each)


def columns_of_studies():
    """Return the names of the columns in the schemas of all modules of analysis."""
    found = set()
    for module in pkgutil.walk_packages(analysis.__path__, "analysis."):
        for value in vars(importlib.import_module(module.name)).values():
            for schema in schemas(value):
                found |= set(schema.names)
    return found


def described():
    """Return the names in the first column of each table of both pages, and their endings and beginnings."""
    pages = [(DOCS / f"{name}.md").read_text("utf-8") for name in ("columns", "schema")]
    firsts = re.findall(r"^\| (`[^|]+) \|", "\n".join(pages), re.M)
    names = {name for first in firsts for name in re.findall(r"`([^`]+)`", first)}
    affixes = {n for n in names if n.startswith("_") or n.endswith("_")}
    return names - affixes, affixes


def explains(name, names, affixes):
    """Return whether a name is described, if necessary without its described endings and beginnings."""
    name = name.replace(" ", "_")
    if name in {known.replace(" ", "_") for known in names}:
        return True
    shorter = (name.removesuffix(a) if a.startswith("_") else name.removeprefix(a) for a in affixes)
    return any(explains(each, names, affixes) for each in shorter if each not in ("", name))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("fall", True),
        ("fall_low", True),
        ("fall high", True),
        ("fall_x_low", False),
        ("_low", False),
    ],
)
def test_a_name_with_endings_is_explained(name, known):
    assert explains(name, {"fall"}, {"_low", "_high", "random_"}) == known


def test_the_columns_of_all_studies_are_described():
    names, affixes = described()
    columns = columns_of_studies()
    assert len(columns) > 200
    assert sorted(c for c in columns if not explains(c, names, affixes)) == []


#: Names in code type that are no property: values, arguments and names of other programs.
NO_PROPERTY = {"alpha", "model_type"}


def vague(meaning, name):
    """Return whether a text is no description: empty, the name itself, or without a word."""
    words = re.findall(r"[a-zληω]{2,}", meaning.lower())
    return not words or meaning.strip().lower() in (name, name.replace("_", " "))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_property_of_nodes_and_edges_is_described(table):
    assert not vague(table.meaning, table.name)
    for one in table.properties:
        assert not vague(one.meaning, one.name), one
        # The first of a table has nothing before it that could be "the same".
        first = one is table.properties[0]
        assert not (first and one.meaning.startswith(("the same", "as "))), one


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_meanings_name_properties_that_exist(table):
    known = {one.name for each in TABLES for one in each.properties} | NO_PROPERTY
    known |= {name for q in queries.every() for name in (p.name for p in q.parameters)}
    for one in table.properties:
        for name in re.findall(r"`(\w+)`", one.meaning):
            assert name in known, (one.name, name)


def test_the_page_of_the_schema_has_every_property():
    sections = (DOCS / "schema.md").read_text("utf-8").split("\n## ")
    for table in TABLES:
        starts = (f"`(:{table.name})`", f"`(:{getattr(table, 'source', '')})-[:{table.name}]->")
        (section,) = (each for each in sections if each.startswith(starts))
        assert table.meaning in section
        for one in table.properties:
            assert f"| `{one.name}`" in section, one.name
            assert one.meaning in section, one.name


@pytest.mark.parametrize("query", queries.every(), ids=lambda query: query.name)
def test_every_column_and_parameter_of_a_query_is_described(query):
    for one in (*query.columns, *query.parameters):
        assert not vague(one.meaning, one.name), one
