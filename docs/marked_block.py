"""Replace the generated block of a page: the text between two marks; with --check, only compare."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write_block(page: Path, block: str, *, begin: str, end: str = "") -> None:
    """Write a block between the marks of a page.

    With --check as an argument of the script, nothing is written.

    Parameters
    ----------
    page
        The page.
    block
        The text between the marks.
    begin
        The line before the block.
    end
        The line after the block; if empty, the block is the rest of the page.

    Raises
    ------
    SystemExit
        If a mark is missing, or with --check if the page has another block.
    """
    name, now = page.relative_to(ROOT), page.read_text("utf-8")
    before, found, rest = now.partition(begin)
    _, ended, after = rest.partition(end) if end else ("", " ", "")
    if not found or not ended:
        sys.exit(f"{name} has no line {(end if found else begin)!r}; add the marks of its block.")
    made = f"{before}{begin}\n{block}\n{end}{after}"
    if "--check" not in sys.argv[1:]:
        page.write_text(made, "utf-8")
    elif made != now:
        sys.exit(f"{name} differs from the code; run `make pages`.")
