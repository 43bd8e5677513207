"""Links of the documentation that lead out of ``docs/``: to pages of the site, or to no link."""

import os
import re
from pathlib import Path

__all__ = ["resolve"]

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent

#: Files and folders outside of ``docs/`` that are pages of the site.
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "README.md": "index.md",
    "examples/README.md": "demo-models.md",
    "queries": "generated/queries.md",
}

_COPY = re.compile(r"\A<!-- copy of (\S+) -->")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def resolve(app, docname, source):
    """Replace a page that names another file by that file, and resolve its links.

    A link to a file of the repository that is no page of the site becomes the path of that file.
    """
    page = DOCS / f"{docname}.md"
    if not page.exists():  # a notebook, or a page of autosummary
        return
    file, text = page, source[0]
    copied = _COPY.match(text)
    if copied is not None:
        file = (page.parent / copied[1]).resolve()
        text = file.read_text("utf-8")

    def link(found):
        label, target, anchor = found[1], found[2], found[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        path = (file.parent / target).resolve()
        name = os.path.relpath(path, ROOT)
        if name in PAGES:
            path = DOCS / PAGES[name]
        if path.is_relative_to(DOCS):
            return f"[{label}]({os.path.relpath(path, page.parent)}{anchor})"
        return f"{label} (`{name}`)"

    source[0] = _LINK.sub(link, text)
