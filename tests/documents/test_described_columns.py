"""docs/columns.md and docs/schema.md describe the columns of the tables of all studies."""

import importlib
import pkgutil
import re
from pathlib import Path

import pyarrow as pa
import pytest

import analysis

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
