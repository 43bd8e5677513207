"""q-values of Benjamini and Hochberg for rows of which some have no p-value."""

from collections.abc import Sequence

from scipy.stats import false_discovery_control

__all__ = ["q_values"]


def q_values(p: Sequence[float | None]) -> list[float | None]:
    """Return the Benjamini-Hochberg q-value of each p-value; None where there is no p-value.

    Parameters
    ----------
    p
        p-values of the tests of one family. None marks a test that was not run; it does not count
        as a member of the family.

    References
    ----------
    Y. Benjamini and Y. Hochberg (1995). Controlling the false discovery rate. J. R. Stat. Soc. B 57.

    Examples
    --------
    >>> q_values([0.01, None, 0.04, 0.03])
    [0.03, None, 0.04, 0.04]
    """
    known = [one for one in p if one is not None]
    values = iter(false_discovery_control(known).tolist() if known else ())
    return [None if one is None else next(values) for one in p]
