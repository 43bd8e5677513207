"""Distribution functions of degree and clustering, for the plot of a comparison."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.graph_comparison.subjects import ComparedGraph

__all__ = ["CURVES", "WHAT", "curves_of"]

#: The plotted distributions.
WHAT = ("degree", "clustering")

#: Columns of a table of curves. ``side`` is A or B. ``null`` marks a bipartite null graph.
#: ``share`` is the share of live features at or below ``value``.
CURVES = pa.schema({
    "what": pa.string(), "side": pa.string(), "null": pa.bool_(), "value": pa.float64(),
    "share": pa.float64(),
})  # fmt: skip

_POINTS = 300  # largest number of points of a curve; more are not visible


def curves_of(a: ComparedGraph, b: ComparedGraph) -> pa.Table:
    """Compute the distribution functions of two SAEs and of one null graph of each.

    Parameters
    ----------
    a, b
        The SAEs.

    Returns
    -------
    Rows as in ``CURVES``.
    """
    rows = []
    for what in WHAT:
        for side, subject in (("A", a), ("B", b)):
            graphs = [(False, subject.full), *((True, g) for g in subject.nulls[:1])]
            for null, graph in graphs:
                points = _function(getattr(graph, what)[subject.live].astype(np.float64), what)
                rows += [
                    {"what": what, "side": side, "null": null, "value": x, "share": y}
                    for x, y in zip(*points, strict=True)
                ]
    return pa.Table.from_pylist(rows, schema=CURVES)


def _function(values: NDArray[np.float64], statistic: str) -> tuple[list[float], list[float]]:
    """Return the distribution function at its steps, or on a grid if there are too many steps."""
    x = np.unique(np.append(values, 0.0))
    if len(x) > _POINTS:
        top = x[-1]
        grid = np.expm1(np.linspace(0, np.log1p(top), _POINTS)) if statistic == "degree" else (
            np.linspace(0, top, _POINTS))  # fmt: skip
        x = np.unique(np.append(grid, [0.0, top]))
    share = np.searchsorted(np.sort(values), x, side="right") / max(len(values), 1)
    return x.tolist(), share.tolist()
