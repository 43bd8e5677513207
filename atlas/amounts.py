"""Amounts in sentences: a number with its noun, bytes, and a range."""

from collections.abc import Sequence

__all__ = ["byte_size", "counted", "span"]


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
