"""A comparison of two graphs: numbers with limits and controls, and their storage in tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.statistics.intervals import quantile_interval

__all__ = ["INTERVAL", "RANGE", "ROWS", "STANDARD_ERROR", "TABLES", "Comparison", "Row", "range_of"]

#: Kinds of limits of a number.
INTERVAL = "95% interval"
RANGE = "range of halvings"
STANDARD_ERROR = "± standard error"


@dataclass(frozen=True)
class Row:
    """One number measured on two graphs. A missing value is None, and ``note`` may state why.

    Parameters
    ----------
    kind
        ``"distance"``, ``"coverage"``, ``"conserved"``, ``"conserved by r"`` or ``"communities"``.
    measure
        The name of the number.
    a, b
        The SAEs.
    text
        ``"all"``: both graphs are from all tokens. ``"halves"``: A's graph is from a random half of
        the documents and B's from the other half. The value is the mean over halvings; shares
        of edges are pooled over halvings.
    n, of
        Sample size, in features or edges.
    unit
        The unit; empty if there is none.
    value, low, high, limits
        The number, its limits, and the kind of limits. For conserved edges, limits are the 95%
        interval of the vertex bootstrap. For communities over all tokens, they are the 95%
        interval of the jackknife over features. For distances over all tokens, they are ± one
        standard error over resampled features. This is not a confidence interval, since small
        distances are biased upward. For distances and communities over halves, limits are the
        lowest and the highest value of the halvings.
    halvings
        For ``"halves"``: number of halvings with a value.
    same_text
        For ``"halves"``: the number with both graphs from the same half.
    itself_mean, itself_low, itself_high
        For ``"halves"``: the number between the two halves of one SAE, as a mean over both SAEs,
        with the same kind of limits.
    null
        The name of the null.
    null_mean, null_low, null_high
        The number under the null: mean and central 95% of draws; for distances, the range.
    rewired_mean, rewired_low, rewired_high
        The number with the edges of B swapped, which preserves the degree of each feature.
    p, rewired_p
        p-values: share of draws at least as high, with minimum 1 / (1 + draws). None if
        permutations hardly change the matches.
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


def range_of(name: str, samples: NDArray[np.float64], *, share: float = 0.95) -> dict[str, Any]:
    """Return the mean and the limits of draws as fields; None if no draw has a value.

    Parameters
    ----------
    name
        Prefix of the fields: ``name_mean``, ``name_low``, ``name_high``.
    samples
        (draws,). NaN for a draw without a value.
    share
        Central share of draws between the limits; 1 for the minimum and the maximum.
    """
    values = samples[np.isfinite(samples)]
    if not len(values):
        return dict.fromkeys((f"{name}_mean", f"{name}_low", f"{name}_high"))
    low, high = quantile_interval(values, share=share)
    return {
        f"{name}_mean": float(values.mean()),
        f"{name}_low": float(low),
        f"{name}_high": float(high),
    }


#: The tables that store a comparison.
TABLES = ("rows", "curves", "summary")

_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}

#: Columns of the table of rows.
ROWS = pa.schema(
    [
        (name, next(t for k, t in _TYPES.items() if k in (hint, *get_args(hint))))
        for name, hint in get_type_hints(Row).items()
    ]
)

_SUMMARY = pa.schema(
    {
        "tokens": pa.int64(),
        "half_tokens": pa.int64(),
        "min_count": pa.int64(),
        "notes": pa.list_(pa.string()),
        "conclusion": pa.string(),
        "matches": pa.int64(),
        "live": pa.list_(pa.int64()),
        "communities": pa.list_(pa.int64()),
    }
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of a comparison of two SAEs' graphs.

    Parameters
    ----------
    a, b
        Names of the SAEs.
    tokens, half_tokens
        Number of tokens of each graph, and the smallest number of tokens of a half (0 without
        codes).
    min_count
        Smallest count of an edge.
    rows
        The measured numbers.
    notes
        Limitations, in sentences.
    conclusion
        The conclusion, in sentences.
    matches
        Number of matches used for edges and communities.
    live
        Number of active features of A and of B.
    communities
        Number of communities of A and of B; empty if they were not compared.
    curves
        Distribution functions; see ``analysis.graph_comparison.distances``.
    """

    a: str
    b: str
    tokens: int
    half_tokens: int
    min_count: int
    rows: Sequence[Row]
    notes: Sequence[str]
    conclusion: str
    matches: int
    live: Sequence[int]
    communities: Sequence[int]
    curves: pa.Table

    @classmethod
    def read(cls, a: str, b: str, table: Callable[[str], pa.Table]) -> "Comparison":
        """Read a comparison from its tables.

        Parameters
        ----------
        a, b
            Names of the SAEs.
        table
            Function that returns a table by name.
        """
        (summary,) = table("summary").to_pylist()
        rows = [Row(**row) for row in table("rows").to_pylist()]
        return cls(a=a, b=b, rows=rows, curves=table("curves"), **summary)

    @property
    def tables(self) -> Mapping[str, pa.Table]:
        """The tables that store the comparison."""
        summary = {name: getattr(self, name) for name in _SUMMARY.names}
        return {
            "rows": pa.Table.from_pylist([vars(row) for row in self.rows], schema=ROWS),
            "curves": self.curves,
            "summary": pa.Table.from_pylist([summary], schema=_SUMMARY),
        }

    @property
    def summary(self) -> dict[str, Any]:
        """The main numbers, notes and conclusion."""
        return {
            "a": self.a,
            "b": self.b,
            "tokens": self.tokens,
            "half_tokens": self.half_tokens,
            "min_count": self.min_count,
            "notes": list(self.notes),
            "conclusion": self.conclusion,
        }

    @property
    def reported(self) -> dict[str, Any]:
        """The summary and the rows, as plain values."""
        return self.summary | {"rows": [vars(row) for row in self.rows]}
