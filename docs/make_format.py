"""Write the kinds of parts of studies into docs/format.md; with --check, only compare.

A row has the tables that the schema assigns to the kind, and ``tables`` and ``part_names`` of the
class of the study.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marked_block import write_block

from atlas.schema import TABLES, Edge, owners

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "format.md"
BEGIN, END = "<!-- studies: made by `make docs` -->", "<!-- end of studies -->"


def studies() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the file and the constants of each class of a study, sorted by file."""
    paths = [p for room in ("ingest", "analysis") for p in sorted((ROOT / room).rglob("*.py"))]
    for path in paths:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and any(
                getattr(b, "id", "") in ("Study", "TorchStudy") for b in node.bases
            ):
                of = dict(constants(node))
                if "kind" in of:  # otherwise a base class
                    yield path, of


def constants(of: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of the literal attributes of a class."""
    for node in of.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            try:
                yield node.target.id, ast.literal_eval(node.value)
            except ValueError:
                continue


def row(path: Path, of: dict[str, Any]) -> str:
    """Return the row of one study."""
    kind = of["kind"]
    graph = [t.type if isinstance(t, Edge) else t.label for t in TABLES if kind in owners(t)]
    own = [
        f"{name if name[0].isupper() else f'`{name}`'}: {content}"
        for name, content in of.get("tables", {}).items()
    ]
    names = f" (named {of['part_names']})" if of.get("part_names") else ""
    tables = "; ".join([", ".join(graph), *own] if graph else own)
    return f"| `{kind}`{names} | {tables} | `{path.relative_to(ROOT)}` |"


def table() -> str:
    """Return the table of all studies."""
    rows = [row(path, of) for path, of in studies()]
    return "\n".join(["| kind | tables | written by |", "|---|---|---|", *rows])


if __name__ == "__main__":
    write_block(PAGE, table(), begin=BEGIN, end=END)
