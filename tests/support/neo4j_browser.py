"""A headless Chromium at a server's own Neo4j Browser: log in, paste a command, run it, read the result.

Used by the tests and by ``docs/make_screenshot.py``.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import ClientError
from playwright.sync_api import Page, TimeoutError, expect, sync_playwright

PATIENCE = 600_000  # ms to wait for each step: a loaded machine draws slowly
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")

# The frame that shows a command, once it has its result: by its label, without its blanks.
FIND = """([command]) => {
  const bare = text => text.replace(/\\s+/g, '')
  for (const frame of document.querySelectorAll('[data-testid=frame]')) {
    const at = name => frame.querySelector(`[data-testid=${name}]`)
    if (bare(at('frameCommand')?.textContent ?? '') !== bare(command) || at('spinner')) continue
    const status = at('frameStatusbar')?.textContent ?? ''
    const contents = at('frameContents')?.textContent ?? ''
    if (/Started streaming|Completed after|Displaying/.test(status + contents)
        || contents.startsWith('ERROR') || at('styleResetButton')) return frame
  }
  return null
}"""

# Whether a node with a caption is drawn; captions are broken into lines.
HAS_CAPTION = """caption => [...document.querySelectorAll('[data-testid=frame] g.node')]
  .some(node => node.textContent.replace(/\\s+/g, ' ').trim() === caption)"""

# Whether the nodes of a graph are on the screen where they were at the last call.
STILL = """() => {
  const corner = node => { const box = node.getBoundingClientRect(); return [box.x, box.y] }
  const now = [...document.querySelectorAll('g.node')].map(corner).join()
  const still = now !== '' && now === window.lastCorners
  window.lastCorners = now
  return still
}"""


class NoBrowser(Exception):
    """This machine or server cannot show Neo4j Browser; the message has the reason."""


@dataclass(frozen=True)
class Shown:
    """What Browser shows for a command.

    ``error`` is empty unless it failed; ``drawn`` are the captions in a graph, empty for
    a table; ``text`` is all of it.
    """

    text: str
    error: str
    columns: list[str]
    records: int
    drawn: list[str]


def find_chromium() -> str:
    """Return the system's Chromium."""
    for name in CHROMIUM:
        if path := shutil.which(name):
            return path
    raise NoBrowser(f"there is none of {', '.join(CHROMIUM)}; install Debian's chromium")


def address(url: str, *, username: str, password: str) -> str:
    """Return the address of Browser on a server with this Bolt URL."""
    question = "SHOW SETTINGS 'server.http.enabled', 'server.http.listen_address' YIELD name, value"
    with neo4j.GraphDatabase.driver(url, auth=(username, password)) as driver:
        try:
            settings = dict(driver.execute_query(question, database_="system").records)
        except ClientError as error:
            raise NoBrowser(f"{username} may not ask {url} where Browser is: {error}") from error
    if settings.get("server.http.enabled") != "true":
        raise NoBrowser(f"{url} has HTTP switched off, which serves Browser")
    port = settings["server.http.listen_address"].rpartition(":")[2]
    return f"http://{urlsplit(url).hostname}:{port}/browser/"


class Browser:
    """Neo4j Browser, logged in."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def run(self, command: str, *, keep: bool = False, caption: str | None = None) -> Shown:
        """Paste a command into the editor, run it, and return what Browser shows; then close the frame.

        With ``caption``, wait until a node with this caption is drawn: Browser draws
        nodes before the captions of the style sheet.
        """
        self._enter(command)
        return self._shown(command, keep=keep, caption=caption)

    def follow(self, link: str, command: str, *, caption: str | None = None) -> Shown:
        """Open a link, run the command that it writes into the editor, and return what Browser shows.

        The frame remains open.
        """
        page = self.page
        page.goto(link)
        lines = page.locator("[data-testid=activeEditor] .view-lines")
        begin = re.sub(r"\s+", "", command)[:40]
        page.wait_for_function(
            "begin => document.querySelector('[data-testid=activeEditor] .view-lines')"
            "?.textContent.replace(/\\s+/g, '').startsWith(begin)",
            arg=begin,
            timeout=PATIENCE,
        )
        expect(page.get_by_text("You are connected as user").first).to_be_visible(timeout=PATIENCE)
        lines.click()
        page.keyboard.press("Control+Enter")
        return self._shown(command, keep=True, caption=caption)

    def _shown(self, command: str, *, keep: bool, caption: str | None) -> Shown:
        page = self.page
        frame = page.wait_for_function(FIND, arg=[command], timeout=PATIENCE).as_element()
        if caption is not None:
            page.wait_for_function(HAS_CAPTION, arg=caption, timeout=PATIENCE)
            frame = page.wait_for_function(FIND, arg=[command], timeout=PATIENCE).as_element()
        text = frame.inner_text()
        error = frame.query_selector("[data-testid=frameContents] >> text=/^ERROR/")
        records = re.search(r"Started streaming (\d+) record", text)
        shown = Shown(
            text=text,
            error=text if error else "",
            columns=[th.inner_text().strip() for th in frame.query_selector_all("th")][1:],
            records=int(records[1]) if records else 0,
            drawn=[n.text_content() or "" for n in frame.query_selector_all("g.node")],
        )
        if not keep:
            frame.query_selector("[title=Close]").click()
        return shown

    def set(self, command: str) -> None:
        """Change a setting of Browser, which shows all settings as JSON; then close the frame."""
        self._enter(command)
        shown = self.page.locator("[data-testid=frame]", has_text=command)
        expect(shown).to_contain_text("maxNeighbours", timeout=PATIENCE)
        shown.locator("[title=Close]").click()

    def _enter(self, command: str) -> None:
        self.page.evaluate("text => navigator.clipboard.writeText(text)", command)
        self.page.locator("[data-testid=activeEditor] .monaco-editor").first.click()
        for key in ("Control+A", "Control+V", "Control+Enter"):
            self.page.keyboard.press(key)

    def picture(self, path: Path) -> None:
        """Write the frame with a graph, when it no longer moves and is in view, as PNG."""
        frame = self.page.locator("[data-testid=frame]:has(g.node)")
        self.page.wait_for_function(STILL, polling=500)
        frame.get_by_label("zoom-to-fit").click()
        self.page.wait_for_function(STILL, polling=500)
        frame.screenshot(path=path)


@contextmanager
def chromium_page(*, args: Sequence[str] = (), permissions: Sequence[str] = ()) -> Iterator[Page]:
    """Yield a page of a headless Chromium that waits long, and requests nothing from the internet.

    Raises
    ------
    NoBrowser
        If there is no Chromium.
    """
    path = find_chromium()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=args)
        context = chromium.new_context(
            viewport={"width": 1280, "height": 900}, permissions=permissions
        )
        context.set_default_timeout(PATIENCE)
        context.route(re.compile("^https:"), lambda route: route.abort())  # fonts, statistics
        yield context.new_page()
        chromium.close()


@contextmanager
def browser(url: str, *, username: str, password: str) -> Iterator[Browser]:
    """Yield a Browser that is connected to a server.

    Raises
    ------
    NoBrowser
        If there is no Chromium, or the server serves no Browser.
    """
    with chromium_page(permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(f"{address(url, username=username, password=password)}?connectURL={url}")
        _log_in(page, username, password)
        yield Browser(page)


def _log_in(page: Page, username: str, password: str) -> None:
    """Fill in the form, and again if Browser draws it again after it has found the server."""
    for _ in range(60):
        page.fill("[data-testid=username]", username)
        page.fill("[data-testid=password]", password)
        try:
            page.click("[data-testid=connect]", timeout=2000)
            expect(page.get_by_text("You are connected as user")).to_be_visible(timeout=6000)
            return
        except (TimeoutError, AssertionError):
            if not page.query_selector("[data-testid=connect]"):
                return
    raise RuntimeError(f"Browser did not log in: {page.inner_text('[data-testid=stream]')}")
