"""Write docs/schema.md from atlas/schema.py; with --check, only say whether it is up to date."""

import sys
from pathlib import Path

from atlas.schema import TABLES, Edge, Node, columns

PAGE = Path(__file__).parent / "schema.md"

HEAD = """# The graph's schema

Made from `atlas/schema.py` by `make docs`. Types are those of Parquet; `[]` marks a
list. The last column names the kind of part that fills the property: where a part is
missing, its properties are null.

"""


def section(of: Node | Edge) -> str:
    """Return the section of one table."""
    if isinstance(of, Edge):
        title = f"## `(:{of.source})-[:{of.type}]->(:{of.target})`"
    else:
        title = f"## `(:{of.label})`"
    rows = [
        f"| `{p.name}`{' (key)' if p.name in of.keys else ''} | {p.type} | {p.unit or '–'} "
        f"| {p.meaning} | {p.owner or of.owner} |"
        for p in columns(of)
        if not (isinstance(of, Edge) and p.name in ("source", "target"))
    ]
    table = ["| property | type | unit | meaning | filled by |", "|---|---|---|---|---|", *rows]
    return "\n".join([title, "", of.meaning, "", *(table if rows else ["No properties."]), ""])


def page() -> str:
    """Return the complete page."""
    return HEAD + "\n".join(section(of) for of in TABLES)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text("utf-8") != page() and "docs/schema.md is old; run `make docs`.")
    PAGE.write_text(page(), "utf-8")
