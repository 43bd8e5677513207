"""A headless Chromium at the newer Browser, which the server offers at ``/browser/preview/``."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neo4j_browser import PATIENCE, address, chromium_page
from playwright.sync_api import Page, expect

__all__ = ["Preview", "preview"]


FINISHED = "Started streaming"  # below each result; the newest is first


class Preview:
    """The newer Browser, logged in."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def import_saved(self, file: Path, *, folder: str) -> None:
        """Import a file in the drawer "Saved Cypher", and open one of its folders."""
        self.page.locator("button[aria-label='Cypher panel']").first.click()
        self.page.locator("input[accept='.csv,.zip']").set_input_files(file)
        self.page.locator("li[role=row]", has_text=folder).get_by_label("Collapse").click()

    def saved(self) -> list[str]:
        """Return the titles of the queries in the open folder."""
        return [
            (button.get_attribute("aria-label") or "").removeprefix("Run query for ")
            for button in self.page.get_by_label(re.compile("^Run query for ")).all()
        ]

    def run_saved(self, title: str) -> tuple[dict[str, int], dict[str, int]]:
        """Run a query of the open folder; return the numbers of nodes and of edges, by name.

        The names are labels and types, and ``*`` for all.
        """
        before = self._text().count(FINISHED)
        self.page.get_by_label(f"Run query for {title}", exact=True).click()
        self.page.wait_for_function(
            "([text, n]) => document.body.innerText.split(text).length - 1 > n",
            arg=[FINISHED, before],
        )
        overview = self._text().partition("Results overview")[2].partition(FINISHED)[0]
        nodes, _, edges = overview.partition("Nodes (")[2].partition("Relationships (")
        return _counts(nodes), _counts(edges)

    def _text(self) -> str:
        return self.page.inner_text("body")


def _counts(text: str) -> dict[str, int]:
    return {name: int(n) for name, n in re.findall(r"^(\*|\w+) \((\d+)\)$", text, re.MULTILINE)}


@contextmanager
def preview(url: str, *, username: str, password: str) -> Iterator[Preview]:
    """Yield the newer Browser, connected to a server.

    Raises
    ------
    NoBrowser
        If there is no Chromium, or the server serves no Browser.
    """
    with chromium_page(args=["--use-gl=swiftshader", "--enable-unsafe-swiftshader"]) as page:
        page.goto(f"{address(url, username=username, password=password)}preview/")
        page.fill("input[name=hostname]", url.partition("//")[2])
        page.fill("input[name=username]", username)
        page.fill("input[name=password]", password)
        page.get_by_role("button", name="Connect", exact=True).last.click()
        # Without a network, a message that the version could not be checked covers the buttons.
        page.add_style_tag(content=".ndl-floating[role=alertdialog] { display: none !important }")
        expect(page.locator("button[aria-label='Cypher panel']").first).to_be_visible(
            timeout=PATIENCE
        )
        yield Preview(page)
