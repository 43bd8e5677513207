"""Write docs/images/browser.png: what Neo4j Browser draws for the first example of neo4j-browser.md.

    NEO4J_PASSWORD=… python docs/make_screenshot.py neo4j://localhost [feature]

The server holds an atlas already (``atlas push``); a feature, such as ``tiny-a-l1-s0/16``,
takes the place of the one in the example. Needs Chromium and what ``make test`` installs.
"""

import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests" / "support"))

from neo4j_browser import browser  # noqa: E402

from atlas.stores.neo4j.browser.pages import style_sheet  # noqa: E402

PICTURE = DOCS / "images" / "browser.png"


def example(feature: str | None) -> str:
    """Return the first example of the page, about a feature."""
    page = (DOCS / "neo4j-browser.md").read_text("utf-8")
    cypher = re.search(r"```cypher\n(.*?)```", page, re.DOTALL)[1]
    return re.sub(r"id: '[^']*'", f"id: '{feature}'", cypher) if feature else cypher


def make(url: str, feature: str | None) -> None:
    """Draw the example and write the picture of it."""
    login = {
        "username": os.environ.get("NEO4J_USERNAME", "neo4j"),
        "password": os.environ.get("NEO4J_PASSWORD", ""),
    }
    with browser(url, **login) as shown:
        shown.run(f":style {style_sheet()}")
        shown.run(example(feature), keep=True)
        PICTURE.parent.mkdir(exist_ok=True)
        shown.picture(PICTURE)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    make(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else None)
