"""Write the diagram of the house into CONTRIBUTING.md from the code; with --check, only compare."""

import ast
from pathlib import Path

from marked_block import write_block

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "CONTRIBUTING.md"
ROOMS = ("queries", "atlas", "ingest", "analysis")
BEGIN, END = "<!-- house: made by `make docs` -->", "<!-- end of house -->"


def first_words(path: Path) -> str:
    """Return the first line of a module's docstring, up to its first full stop or colon's list."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.split("\n", maxsplit=1)[0].rstrip(".")


def folders(room: str) -> list[Path]:
    """Return the packages of a room, itself first."""
    return sorted(p.parent for p in (ROOT / room).rglob("__init__.py"))


def imported(folder: Path) -> set[str]:
    """Return the packages, two names deep, that the files directly in a folder import."""
    found = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                parts = node.module.split(".")
                if parts[0] in ROOMS and parts[0] != folder.relative_to(ROOT).parts[0]:
                    found.add(parts[0])
    return found


def house() -> str:
    """Return the diagram: each room with what it imports, and its folders with their duty."""
    lines = ["```"]
    for room in ROOMS:
        uses = sorted({name for f in folders(room) for name in imported(f)}, key=ROOMS.index)
        lines.append(f"{room}/{'   imports ' + ', '.join(uses) if uses else ''}")
        for folder in folders(room):
            relative = folder.relative_to(ROOT / room)
            if relative.parts:
                name = "  " * len(relative.parts) + relative.name + "/"
                lines.append(f"{name:<24}{first_words(folder / '__init__.py')}")
    return "\n".join([*lines, "```"])


if __name__ == "__main__":
    write_block(PAGE, house(), begin=BEGIN, end=END)
