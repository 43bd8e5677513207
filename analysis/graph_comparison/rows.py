"""A number of a comparison, with its interval, its value for one SAE with itself, and its value under nulls."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.intervals import quantile_interval

__all__ = ["INTERVAL", "RANGE", "STANDARD_ERROR", "Row", "range_of"]

#: What the limits of a number are.
INTERVAL = "95% interval"
RANGE = "range of halvings"
STANDARD_ERROR = "± standard error"


@dataclass(frozen=True)
class Row:
    """One number that was measured of two graphs. None where there is no value; ``note`` may state why.

    Parameters
    ----------
    kind
        ``"distance"``, ``"coverage"``, ``"conserved"``, ``"conserved by r"`` or ``"communities"``.
    measure
        What was measured.
    a, b
        The SAEs.
    text
        ``"all"``: both graphs are of the same, all tokens. ``"halves"``: A's is of a random half of
        the documents and B's of the other one, mean over several halvings (shares of edges are
        pooled over these).
    n, of
        How many features or edges it is of.
    unit
        Its unit; empty where it has none.
    value, low, high, limits
        The number, its limits, and what these are. Of conserved edges: the 95% interval of the
        vertex bootstrap; of communities over all tokens: that of the jackknife over features.
        Of distances over all tokens: one standard error by resampled features on either side;
        a distance is biased upward near 0, so this is no interval of confidence. Of distances
        and communities over halves: the lowest and the highest of the halvings.
    halvings
        For ``"halves"``: how many have the number.
    same_text
        For ``"halves"``: the number where both graphs are of the same half.
    itself_mean, itself_low, itself_high
        For ``"halves"``: the number between the two halves of one SAE, mean over both SAEs; limits
        as of the number.
    null
        What chance is here.
    null_mean, null_low, null_high
        The number by chance: mean and middle 95% of draws; of distances, the lowest and highest.
    rewired_mean, rewired_low, rewired_high
        The same where the edges of B are swapped and each feature has the same number of edges.
    p, rewired_p
        Share of draws that are as high; never below 1 / (1 + draws). None where permutations
        leave the matches nearly as they are.
    note
        A remark.
    """

    kind: str
    measure: str
    a: str = ""
    b: str = ""
    text: str = "all"
    n: int | None = None
    of: str = ""
    unit: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limits: str | None = None
    halvings: int | None = None
    same_text: float | None = None
    itself_mean: float | None = None
    itself_low: float | None = None
    itself_high: float | None = None
    null: str | None = None
    null_mean: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    rewired_mean: float | None = None
    rewired_low: float | None = None
    rewired_high: float | None = None
    p: float | None = None
    rewired_p: float | None = None
    note: str | None = None


def range_of(name: str, drawn: NDArray[np.float64], *, share: float = 0.95) -> dict[str, Any]:
    """Return the mean and the middle share of what was drawn; of values that are none, None.

    Parameters
    ----------
    name
        Of the fields: ``name_mean``, ``name_low``, ``name_high``.
    drawn
        (draws,). NaN where a draw has no value.
    share
        1 for all of it, from the lowest to the highest.
    """
    values = drawn[np.isfinite(drawn)]
    if not len(values):
        return dict.fromkeys((f"{name}_mean", f"{name}_low", f"{name}_high"))
    low, high = quantile_interval(values, share=share)
    return {
        f"{name}_mean": float(values.mean()),
        f"{name}_low": float(low),
        f"{name}_high": float(high),
    }
