"""Amounts as text: a number with its noun, bytes, a range, and the cell of a table."""

import math
import re
from collections.abc import Sequence
from typing import Any

from atlas.safe_text import SPACE, shown

__all__ = ["Share", "byte_size", "cell_text", "counted", "is_share", "listed", "span"]

# Columns of p-values and q-values, such as ``effect_q``. ``p_at_most_0.05`` is a share of p-values.
_P_VALUES = re.compile(r"(^|[ _])[pq]($|[ _](?!at_most))")

# Columns of shares and of rates of activity, printed as percent, with their controls. The logarithm of
# a share is none, nor are a learning rate and `frequency_null`, a null by bins of frequency.
_SHARES = re.compile(
    r"(?<!log)(?<!learning)(^|[ _.])"
    r"(frequency|(edge|parent)_chance|share in [a-z0-9 ]+|"
    r"(share|rate|recall|precision|coverage|hits|context_dependence|active_positive|active_negative|"
    r"p_at_most_[\d.]+|[a-z]+_given_[a-z]+)(_(a|b|before|after|null|control|random))?)$"
)

# Columns of integers that identify something, such as ``f.idx`` and ``seed``; they are no amounts.
_LABELS = re.compile(r"(^|[ _.])(idx|index|seed|number|position|token_id)$")


class Share(float):
    """A share that a table prints as percent, where its column also has other numbers.

    Examples
    --------
    >>> cell_text(Share(0.25), "value"), cell_text(0.25, "value")
    ('25%', '0.25')
    """


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    Parameters
    ----------
    number
        The number.
    noun
        The noun in the singular; its plural ends in s.

    Examples
    --------
    >>> counted(1, "SAE"), counted(1200, "SAE")
    ('1 SAE', '1,200 SAEs')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], most: int, *, separator: str = ", ") -> str:
    """Return the first names of a list, and how many more there are.

    Parameters
    ----------
    names
        The names.
    most
        Number of names that are listed, at most.
    separator
        Between two names.

    Examples
    --------
    >>> listed(["a", "b", "c"], 3), listed(["a", "b", "c"], 1)
    ('a, b, c', 'a and 2 more')
    """
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def byte_size(number: float) -> str:
    """Return a number of bytes in MiB or GiB; less than half a MiB is "less than 1 MiB".

    Parameters
    ----------
    number
        Bytes.

    Examples
    --------
    >>> byte_size(0), byte_size(4 * 2**20), byte_size(3 * 2**29)
    ('less than 1 MiB', '4 MiB', '1.5 GiB')
    """
    if number >= 2**30:
        return f"{number / 2**30:,.1f} GiB"
    return f"{number / 2**20:,.0f} MiB" if number >= 2**19 else "less than 1 MiB"


def span(values: Sequence[float], *, digits: int = 0) -> str:
    """Return the lowest and the highest value, or one number if both are equal when rounded.

    Parameters
    ----------
    values
        At least one value.
    digits
        Decimal places.

    Examples
    --------
    >>> span([8.1, 7.9]), span([3.0, 12.4])
    ('8', '3 to 12')
    """
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def is_share(name: str) -> bool:
    """Return whether a column of this name has shares or rates of activity, printed as percent.

    Parameters
    ----------
    name
        Name of the column.

    Examples
    --------
    >>> is_share("dead_share"), is_share("coverage_null"), is_share("learning_rate")
    (True, True, False)
    """
    return _SHARES.search(name) is not None


def cell_text(value: Any, name: str = "") -> str:
    """Return a value as the text of a cell: three significant digits, no control characters.

    Parameters
    ----------
    value
        A number, text, list or None.
    name
        Name of the column. Values of p and q below .001 are shown as such, and shares as percent. Integers that are
        labels, such as ``idx`` and ``seed``, have no separators, so that they can be copied. Spaces of a text of spaces, and of
        texts in a list, are shown as ␣.

    Examples
    --------
    >>> cell_text(1234567), cell_text(1234, "idx"), cell_text(0.123456), cell_text(1e-6, "q"), cell_text(0.25, "share")
    ('1,234,567', '1234', '0.123', '<.001', '25%')
    >>> cell_text(" "), cell_text([" the", "s"])
    ('␣', '␣the s')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value, name)
    if isinstance(value, int):
        return str(value) if _LABELS.search(name) else f"{value:,}"
    if isinstance(value, list):
        return " ".join(_item(v) for v in value)
    if isinstance(value, str) and value and not value.strip(" "):
        return SPACE * len(value)  # an empty cell would be no token
    # Line breaks and tabs would break the layout of the table.
    return shown(str(value).replace("\r", "␍").replace("\n", "⏎").replace("\t", "⇥"))


def _item(value: Any) -> str:
    """Return an item of a list as text; the spaces of a token are visible, because a space separates items."""
    text = cell_text(value)
    return text.replace(" ", SPACE) if isinstance(value, str) else text


def _number(value: float, name: str) -> str:
    """Format a float with three significant digits; a column of shares is percent in all rows."""
    if not math.isfinite(value):
        return str(value)
    if 0 <= value < 0.001 and _P_VALUES.search(name):
        return "<.001"
    if isinstance(value, Share) or is_share(name):
        return f"{_three_digits(100 * value)}%"
    return _three_digits(value)


def _three_digits(value: float) -> str:
    """Format a finite float, with thousands separators from 1,000."""
    if value == 0 or abs(value) < 1e-4 or abs(value) >= 1e9:
        return f"{value:.3g}"
    if abs(value) >= 999.5:  # three digits of 999.7 are 1e+03
        return f"{value:,.0f}"
    return f"{value:.3g}"
