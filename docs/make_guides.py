"""Write the tables and the navigation of docs/guides.md; with --check, only compare.

A guide names its questions and commands in comments below its title::

    <!-- guide: Are activations different at some positions? `atlas positions` -->

The section and the order are those of the commands.
"""

import re
import sys
from pathlib import Path

from marked_block import write_block

from atlas.plugins import Room, find_rooms

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "guides.md"
BEGIN = "<!-- the rest is made by `make docs` -->"

#: Section of the guides, by section of `atlas --help`; guides of other commands are in the last one.
SECTIONS = {
    "Measure SAEs": "Measure one SAE",
    "Inspect": "Measure one SAE",
    "Compare SAEs": "Compare SAEs",
    "Edit the model": "Change the model",
    "": "Make and share",
}
GUIDE = re.compile(r"^<!-- guide: (.+\?) `(atlas ([\w-]+).*)` -->$", re.M)


def commands() -> dict[str, str]:
    """Return the section of each command, in the order of rooms and of their commands."""
    rooms = {room.name: room for room in find_rooms() if isinstance(room, Room)}
    return {
        str(each.name): section
        for name in ("atlas", "ingest", "analysis")
        for section, listed in rooms[name].commands.items()
        for each in listed
    }


def guides() -> dict[str, list[tuple[str, str, str, Path]]]:
    """Return question, command, title and page of each guide, by section."""
    known = commands()
    found = []
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text("utf-8")
        title = text.split("\n", maxsplit=1)[0].removeprefix("# ")
        for question, words, name in GUIDE.findall(text):
            if name not in known:
                sys.exit(f"{path.name} names the command {words!r}, which does not exist.")
            found.append((list(known).index(name), (question, words, title, path)))
    sections: dict[str, list[tuple[str, str, str, Path]]] = {each: [] for each in SECTIONS.values()}
    for _, guide in sorted(found, key=lambda each: each[0]):
        section = known[guide[1].split()[1]]
        sections[SECTIONS.get(section, SECTIONS[""])].append(guide)
    return sections


def block() -> str:
    """Return the tables and the navigation of all guides."""
    tables, trees = [], []
    for section, listed in guides().items():
        rows = [f"| {q} | `{words}` | [{title}]({path.name}) |" for q, words, title, path in listed]
        head = ["| question | command | guide |", "|---|---|---|"]
        tables.append("\n".join([f"## {section}", "", *head, *rows]))
        names = dict.fromkeys(path.stem for *_, path in listed)
        trees.append(
            "\n".join(["```{toctree}", ":hidden:", f":caption: {section}", "", *names, "```"])
        )
    return "\n" + "\n\n".join([*tables, *trees])


if __name__ == "__main__":
    write_block(PAGE, block(), begin=BEGIN)
