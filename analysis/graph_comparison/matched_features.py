"""Matched features of two SAEs."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.graph_comparison.settings import Chosen
from atlas.api import Atlas
from atlas.errors import BadInput, Missing
from atlas.graphs import edge_ends

__all__ = ["Partners", "check_matched", "read_partners"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Partners:
    """A one-to-one map between features of two SAEs.

    Parameters
    ----------
    a, b
        int64, (matches,). Indices of the features.
    r
        float64, (matches,). Correlation of the matched features.
    """

    a: Ints
    b: Ints
    r: NDArray[np.float64]

    def __post_init__(self) -> None:
        if len({len(self.a), len(self.b), len(self.r)}) > 1:
            raise BadInput(
                f"Expected equal numbers of features of A, features of B and correlations; "
                f"{len(self.a):,}, {len(self.b):,} and {len(self.r):,} were passed."
            )
        if any(len(np.unique(side)) < len(side) for side in (self.a, self.b)):
            raise BadInput("A feature has two partners; pass one-to-one matches.")

    def __len__(self) -> int:
        return len(self.a)


def check_matched(atlas: Atlas, a: str, b: str, *, matches: Chosen = "both-nulls") -> None:
    """Check that two SAEs are matched.

    Raises
    ------
    Missing
        If they are not matched, or were matched without draws and q is needed.
    """
    first, second = sorted((a, b))  # edges between SAEs are stored in this direction
    rows = atlas.table("COMPARED_WITH", sae=first).to_pylist()
    row = next((x for x in rows if x["target"] == second), None)
    if row is None:
        raise Missing(f"{a} and {b} are not matched in {atlas.url}; run `atlas match {a} {b}`.")
    if matches == "both-nulls" and not row["draws"]:
        raise Missing(
            f"{a} and {b} were matched without draws, so no match has a q; run "
            f"`atlas match {a} {b} --draws 20 --replace`, or use `matches='one-to-one'`."
        )


def read_partners(
    atlas: Atlas, a: str, b: str, *, matches: Chosen = "both-nulls", level: float = 0.05
) -> Partners:
    """Read the matched features of two SAEs.

    Parameters
    ----------
    atlas
        The atlas.
    a, b
        Names of the SAEs.
    matches, level
        See ``ComparisonSettings``.

    Returns
    -------
    Partners
        The matches, possibly none.

    Raises
    ------
    Missing
        If they are not matched, or were matched without draws and q is needed.
    """
    check_matched(atlas, a, b, matches=matches)
    first, second = sorted((a, b))  # edges between SAEs are stored in this direction
    table = atlas.table("MATCHES", sae=first)
    met = pc.starts_with(table["target"], f"{second}/").to_numpy()
    if matches == "mutual":
        met &= table["mutual"].to_numpy()
    else:
        met &= table["one_to_one"].to_numpy()
    if matches == "both-nulls":
        for name in ("q", "token_q"):
            q = table[name].to_numpy().astype(np.float64)  # null becomes NaN, which is not <= level
            met &= q <= level
    ends = edge_ends(table)[met]
    if first != a:
        ends = ends[:, ::-1]
    order = np.argsort(ends[:, 0], kind="stable")
    return Partners(ends[order, 0], ends[order, 1], table["pearson"].to_numpy()[met][order])
