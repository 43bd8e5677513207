"""Write docs/images/browser.png: what Neo4j Browser draws for a picture of neo4j-browser.md.

    NEO4J_PASSWORD=… python docs/make_screenshot.py neo4j://localhost tiny-a-l1-s0/16 [picture]

Push the atlas to the server first (``atlas push``). The picture is ``1_neighbours`` unless another is
named. Needs Chromium and what ``make test`` installs.
"""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests" / "support"))

from neo4j_browser import browser  # noqa: E402

from atlas.stores.neo4j.browser.pages import (  # noqa: E402
    REQUESTED_EDGES,
    pictures,
    style_sheet,
    with_names,
)

PICTURE = DOCS / "images" / "browser.png"


def make(url: str, feature: str, picture: str) -> None:
    """Draw a picture of a feature and write it as PNG."""
    login = {
        "username": os.environ.get("NEO4J_USERNAME", "neo4j"),
        "password": os.environ.get("NEO4J_PASSWORD", ""),
    }
    query = next(each for each in pictures() if each.name == picture)
    with browser(url, **login) as shown:
        shown.run(f":style {style_sheet()}")
        shown.set(REQUESTED_EDGES)
        shown.run(with_names(query, {"feature": feature}), keep=True)
        PICTURE.parent.mkdir(exist_ok=True)
        shown.picture(PICTURE)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    make(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) == 4 else "1_neighbours")
