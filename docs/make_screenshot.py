"""Write docs/images/browser.png: Neo4j Browser with its guide, and what it draws for the first picture.

    NEO4J_PASSWORD=… python docs/make_screenshot.py neo4j://localhost tiny-a-l1-s0/16 [picture]

Push the atlas to the server first (``atlas push``). The picture is ``1_neighbours`` unless another is
named. The guide is that of ``docker compose up``, served by this program. Needs Chromium and what
``make test`` installs.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests" / "support"))

from neo4j_browser import PATIENCE, STILL, Browser, address, browser  # noqa: E402
from neo4j_server import free_port  # noqa: E402
from PIL import Image  # noqa: E402

from atlas.stores.neo4j.browser.pages import (  # noqa: E402
    REQUESTED_EDGES,
    pictures,
    style_sheet,
    with_names,
)
from atlas.stores.neo4j.browser.served_pages import Neo4jHttp, server_of_pages  # noqa: E402

PICTURE = DOCS / "images" / "browser.png"

#: Pixels of the window; the list of labels covers a part of the graph in a narrower one.
SIZE = {"width": 1800, "height": 860}


def make(url: str, feature: str, picture: str) -> None:
    """Draw a picture of a feature next to the guide, and write the window as PNG."""
    login = {
        "username": os.environ.get("NEO4J_USERNAME", "neo4j"),
        "password": os.environ.get("NEO4J_PASSWORD", ""),
    }
    query = next(each for each in pictures() if each.name == picture)
    http = address(url, **login).removesuffix("/browser/")
    with served(Neo4jHttp(http, **login), http) as guide, browser(url, **login) as shown:
        shown.page.set_viewport_size(SIZE)
        shown.run(f":style {style_sheet()}")
        shown.set(REQUESTED_EDGES)
        open_guide(shown, guide)
        shown.run(with_names(query, {"feature": feature}), keep=True)
        shown.page.wait_for_function(STILL, polling=500)
        frame = shown.page.locator("[data-testid=frame]:has(g.node)")
        frame.get_by_label("zoom-to-fit").click()
        shown.page.wait_for_function(STILL, polling=500)
        box = frame.bounding_box()
        PICTURE.parent.mkdir(exist_ok=True)
        clip = {"x": 0, "y": 0, "width": SIZE["width"], "height": box["y"] + box["height"] + 8}
        shown.page.screenshot(path=PICTURE, clip=clip)
    with Image.open(PICTURE) as drawn:
        few = drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(PICTURE, optimize=True)  # a third of the size


@contextmanager
def served(neo4j: Neo4jHttp, http: str) -> Iterator[str]:
    """Serve the guide of the atlas on a server, and yield its address."""
    port = free_port()
    pages = server_of_pages(neo4j, http, host="127.0.0.1", port=port)
    thread = threading.Thread(target=pages.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{port}/guide.html"
    finally:
        pages.shutdown()
        thread.join()
        pages.server_close()


def open_guide(shown: Browser, guide: str) -> None:
    """Open the guide, and wait until its first slide is drawn."""
    shown._enter(f":guide {guide}")
    shown.page.get_by_text("A feature and its neighbours", exact=True).wait_for(timeout=PATIENCE)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    make(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) == 4 else "1_neighbours")
