"""A comparison of two graphs, and its storage in tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import pyarrow as pa

from analysis.graph_comparison.rows import Row

__all__ = ["ROWS", "TABLES", "Comparison"]

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

_SUMMARY = pa.schema({
    "tokens": pa.int64(), "half_tokens": pa.int64(), "min_count": pa.int64(),
    "notes": pa.list_(pa.string()), "conclusion": pa.string(), "matches": pa.int64(),
    "live": pa.list_(pa.int64()), "communities": pa.list_(pa.int64()),
})  # fmt: skip


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
        Distribution functions; see ``analysis.graph_comparison.curves``.
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
