"""Answers that an assistant can read: plain values, without control characters, of limited size."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from atlas.safe_text import shown

__all__ = ["MAX_ANSWER", "MAX_ROWS", "fitted_rows", "plain"]

MAX_ROWS = 500
"""Largest number of rows of an answer."""
MAX_ANSWER = 60_000
"""Largest number of characters of the rows of an answer, as JSON: about 20,000 tokens."""
MAX_CELL = 2_000
"""Largest number of characters of a text in an answer."""
MAX_ITEMS = 200
"""Largest number of items of a list in an answer."""


def plain(value: Any) -> Any:
    """Return a value of an answer for JSON.

    Numbers have six significant digits, and those that are not finite become null. Texts have
    no control characters and at most 2,000 characters, lists at most 200 items.

    Examples
    --------
    >>> plain({"weight": 0.123456789, "text": "a\\x1b[2J"})
    {'weight': 0.123457, 'text': 'a␛[2J'}
    """
    if isinstance(value, str):
        return shown(value if len(value) <= MAX_CELL else f"{value[:MAX_CELL]}…")
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {shown(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value[:MAX_ITEMS]]
    return value if isinstance(value, int) else shown(str(value)[:MAX_CELL])


def fitted_rows(rows: Sequence[Mapping[str, Any]], *, total: int | None = None) -> dict[str, Any]:
    """Return the first rows that fit into an answer, and how many there are.

    Parameters
    ----------
    rows
        Rows of values, in order.
    total
        Number of rows of the complete answer, if ``rows`` is only its beginning.

    Returns
    -------
    dict
        ``rows``; ``row_count``, the number of rows of the complete answer; and ``note``, which
        states that rows are missing, or null.
    """
    total = len(rows) if total is None else total
    fitting: list[dict[str, Any]] = []
    size = 0
    for row in rows[:MAX_ROWS]:
        clean = plain(row)
        size += len(json.dumps(clean, ensure_ascii=False))
        if fitting and size > MAX_ANSWER:
            break
        fitting.append(clean)
    note = None
    if len(fitting) < total:
        note = (
            f"Only the first {len(fitting)} of {total} rows are here, because an answer has at most "
            f"{MAX_ROWS} rows and {MAX_ANSWER:,} characters. Use a smaller limit or a narrower question."
        )
    return {"rows": fitting, "row_count": total, "note": note}
