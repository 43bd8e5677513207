"""Answers that an assistant can read: plain values, without control characters, of limited size."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from atlas.errors import BadInput
from atlas.safe_text import shown

__all__ = ["MAX_ANSWER", "MAX_ROWS", "Budget", "fitted_rows", "plain"]

MAX_ROWS = 500
"""Largest number of rows of an answer."""
MAX_ANSWER = 60_000
"""Largest number of characters of the values of an answer, as JSON: about 20,000 tokens."""
MAX_CELL = 2_000
"""Largest number of characters of a text in an answer."""
MAX_ITEMS = 200
"""Largest number of items of a list in an answer."""


class Budget:
    """The characters that remain for an answer, as JSON.

    Attributes
    ----------
    remaining
        Number of characters.
    shortened
        Whether a text or a list was cut.
    """

    def __init__(self) -> None:
        self.remaining = MAX_ANSWER
        self.shortened = False

    def spend(self, characters: int) -> None:
        """Subtract characters.

        Raises
        ------
        BadInput
            If fewer remain.
        """
        self.remaining -= characters
        if self.remaining < 0:
            raise BadInput(
                f"One row has more than {MAX_ANSWER:,} characters; return fewer list items."
            )

    @property
    def note(self) -> str | None:
        """A sentence about the limits of texts and lists; None if nothing was cut."""
        cut = f"Lists are cut to {MAX_ITEMS} items, texts to {MAX_CELL:,} characters."
        return cut if self.shortened else None


def plain(value: Any, budget: Budget | None = None) -> Any:
    """Return a value of an answer for JSON.

    Numbers have six significant digits, and those that are not finite become null. Texts have
    no control characters and at most 2,000 characters, lists at most 200 items.

    Parameters
    ----------
    value
        The value; lists and mappings may be nested.
    budget
        The characters that remain for the answer; by default a complete answer.

    Raises
    ------
    BadInput
        If the value does not fit.

    Examples
    --------
    >>> plain({"weight": 0.123456789, "text": "a\\x1b[2J"})
    {'weight': 0.123457, 'text': 'a␛[2J'}
    """
    budget = budget or Budget()
    if isinstance(value, Mapping):
        budget.spend(2 + 4 * len(value))  # brackets, colons, commas and spaces
        return {_scalar(str(key), budget): plain(item, budget) for key, item in value.items()}
    if isinstance(value, list | tuple):
        budget.shortened |= len(value) > MAX_ITEMS
        items = value[:MAX_ITEMS]
        budget.spend(2 + 2 * len(items))
        return [plain(item, budget) for item in items]
    return _scalar(value, budget)


def _scalar(value: Any, budget: Budget) -> Any:
    """Return a value that is no list or mapping."""
    if isinstance(value, float):
        value = float(f"{value:.6g}") if math.isfinite(value) else None
    elif value is not None and not isinstance(value, int):
        text = str(value)
        budget.shortened |= len(text) > MAX_CELL
        value = shown(text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]}…")
    budget.spend(len(json.dumps(value, ensure_ascii=False)))
    return value


def fitted_rows(
    rows: Sequence[Mapping[str, Any]], *, total: int | None = None, budget: Budget | None = None
) -> dict[str, Any]:
    """Return the first rows that fit into an answer, and how many there are.

    Parameters
    ----------
    rows
        Rows of values, in order.
    total
        Number of rows of the complete answer, if ``rows`` is only its beginning.
    budget
        The characters that remain, if the rows are one part of an answer. This part may be empty.

    Returns
    -------
    dict
        ``rows``; ``row_count``, the number of rows of the complete answer; and ``note``, which
        states that rows, items of lists or ends of texts are missing, or null.

    Raises
    ------
    BadInput
        If the first row alone is too large for an answer.
    """
    total = len(rows) if total is None else total
    spent = budget or Budget()
    fitting: list[dict[str, Any]] = []
    for row in rows[:MAX_ROWS]:
        before = spent.remaining
        try:
            spent.spend(2)
            fitting.append(plain(row, spent))
        except BadInput:
            spent.remaining = before
            if not fitting and budget is None:
                raise
            break
    notes = []
    if len(fitting) < total:
        notes.append(
            f"Only the first {len(fitting)} of {total} rows are here, because an answer has at most "
            f"{MAX_ROWS} rows and {MAX_ANSWER:,} characters. Use a smaller limit or a narrower question."
        )
    if budget is None and spent.note:
        notes.append(spent.note)
    return {"rows": fitting, "row_count": total, "note": " ".join(notes) or None}
