"""Text of others (tokens, labels, names), made safe for where it is shown.

Tokens, documents, labels and names of SAEs and models come from outside and may hold
anything: escape sequences that a terminal obeys, marks that reverse the direction of
writing, text that a spreadsheet takes for a formula. HTML is escaped where it is
written (``analysis.plot_style``, ``analysis.residual.report.html_page``).
"""

import json
from typing import Any

__all__ = ["csv_text", "json_line", "shown"]

# What acts on a terminal or on the order of the text around it, beyond the C0 controls.
_ACTING = (
    *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F),
    *range(0x2066, 0x206A), 0xFEFF,
)  # fmt: skip
_ESCAPES: dict[int, int | str] = {c: f"\\u{c:04x}" for c in (*_ACTING, *range(0xD800, 0xE000))}
_PICTURES: dict[int, int | str] = {c: 0x2400 + c for c in range(32) if chr(c) not in "\t\n"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def shown(text: str) -> str:
    r"""Return text without what a terminal obeys.

    C0 controls become their Unicode pictures (␛ for an escape); C1 controls, marks of
    writing direction, line separators and lone surrogates become escapes. Tabs and line
    ends stay.

    Examples
    --------
    >>> shown("red: \x1b[31m")
    'red: ␛[31m'
    >>> shown("a\u202eb")
    'a\\u202eb'
    """
    return text.translate(_PICTURES | _ESCAPES)


def json_line(value: Any) -> str:
    """Return JSON on one line, readable and exact, with what acts on a terminal as escapes."""
    return json.dumps(value, ensure_ascii=False).translate(_ESCAPES)


def csv_text(text: str) -> str:
    """Return text for a cell of a CSV file that a spreadsheet may open.

    A text that a spreadsheet would take for a formula gets an apostrophe in front, as
    spreadsheets themselves mark text. A single character is no formula.

    References
    ----------
    .. [1] OWASP, "CSV Injection".

    Examples
    --------
    >>> csv_text("=HYPERLINK(1)"), csv_text("-"), csv_text("plain")
    ("'=HYPERLINK(1)", '-', 'plain')
    """
    return f"'{text}" if len(text) > 1 and text.startswith(_FORMULA) else text
