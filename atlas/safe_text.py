"""Make untrusted text (tokens, labels, names) safe to print or export.

Tokens, documents, labels and names of SAEs and models come from outside. They may contain
escape sequences for terminals, marks that reverse the writing direction, or text that a
spreadsheet evaluates as a formula. HTML is escaped where it is written
(``analysis.plot_style``, ``analysis.report_page``).
"""

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["SPACE", "csv_text", "json_line", "passage", "shown", "with_spaces"]

#: The mark that tables show for a space of a token.
SPACE = "␣"

# Code points beyond the C0 controls that control a terminal or the order of surrounding text.
_ACTING = (
    *range(0x7F, 0xA0),
    0x061C,
    0x200E,
    0x200F,
    0x2028,
    0x2029,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
)
_ESCAPES: dict[int, int | str] = {c: f"\\u{c:04x}" for c in (*_ACTING, *range(0xD800, 0xE000))}
_PICTURES: dict[int, int | str] = {c: 0x2400 + c for c in range(32) if chr(c) not in "\t\n"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def with_spaces(text: str) -> str:
    """Return text with a space for each ``␣``, so that a token can be copied from a table.

    Examples
    --------
    >>> with_spaces("␣dog")
    ' dog'
    """
    return text.replace(SPACE, " ")


def shown(text: str) -> str:
    r"""Return text without control characters for terminals.

    C0 controls become their Unicode pictures (␛ for an escape). C1 controls, marks of
    writing direction, line separators and lone surrogates become escapes. Tabs and line
    ends are unchanged.

    Examples
    --------
    >>> shown("red: \x1b[31m")
    'red: ␛[31m'
    >>> shown("a\u202eb")
    'a\\u202eb'
    """
    return text.translate(_PICTURES | _ESCAPES)


def passage(tokens: Sequence[str], index: int) -> str:
    """Return the text of some tokens, with one of them in ``[[ ]]``.

    Examples
    --------
    >>> passage(["The", " cat", " sat"], 1)
    'The[[ cat]] sat'
    """
    return f"{''.join(tokens[:index])}[[{tokens[index]}]]{''.join(tokens[index + 1 :])}"


def json_line(value: Any) -> str:
    """Return JSON on one line, with control characters for terminals as escapes."""
    return json.dumps(value, ensure_ascii=False).translate(_ESCAPES)


def csv_text(text: str) -> str:
    """Return text for a cell of a CSV file that is safe to open in a spreadsheet.

    A text that looks like a formula gets a leading apostrophe, by which spreadsheets mark
    text. A single character is not a formula.

    References
    ----------
    .. [1] OWASP, "CSV Injection".

    Examples
    --------
    >>> csv_text("=HYPERLINK(1)"), csv_text("-"), csv_text("plain")
    ("'=HYPERLINK(1)", '-', 'plain')
    """
    return f"'{text}" if len(text) > 1 and text.startswith(_FORMULA) else text
