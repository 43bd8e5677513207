"""Distances between two distributions, such as degrees, and distribution functions to plot."""

from dataclasses import astuple, dataclass, fields

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance

from analysis.graph_comparison.subjects import ComparedGraph

__all__ = [
    "CURVES",
    "MEASURES",
    "WHAT",
    "Distances",
    "bins_of",
    "bootstrap",
    "curves_of",
    "distances",
]

Floats = NDArray[np.float64]

#: The plotted distributions.
WHAT = ("degree", "clustering")

#: Columns of a table of curves. ``side`` is A or B. ``null`` marks a bipartite null graph.
#: ``share`` is the share of live features at or below ``value``.
CURVES = pa.schema(
    {
        "what": pa.string(),
        "side": pa.string(),
        "null": pa.bool_(),
        "value": pa.float64(),
        "share": pa.float64(),
    }
)

_POINTS = 300  # largest number of points of a curve; more are not visible


@dataclass(frozen=True)
class Distances:
    """Distances between two distributions.

    Parameters
    ----------
    ks
        Kolmogorov-Smirnov statistic: the largest difference between the distribution functions.
    wasserstein
        1-Wasserstein distance: the area between the distribution functions, in the unit of the
        samples.
    js_distance
        Jensen-Shannon distance of the histograms: the square root of the divergence.
    js_divergence
        Jensen-Shannon divergence of the histograms, in nats: from 0 to log 2 = 0.693.
    """

    ks: float
    wasserstein: float
    js_distance: float
    js_divergence: float


MEASURES = tuple(f.name for f in fields(Distances))


def bins_of(x: Floats, y: Floats, *, bars: int, log: bool) -> Floats:
    """Return the bin edges for Jensen-Shannon distances of two samples.

    One bin is for 0 alone. The others have equal width, on a linear or a logarithmic scale, from
    the lowest positive value of both samples to the highest. Other samples may have values
    beyond this range, which count in the first and last of these bins.

    Parameters
    ----------
    x, y
        The samples, without negative values.
    bars
        Number of bins in addition to that of 0.
    log
        Whether bins have equal width on a logarithmic scale.

    Returns
    -------
    ends
        (bins - 1,). Bin 0 is below ``ends[0]``; see ``numpy.digitize``.
    """
    both = np.concatenate([x, y])
    some = both[both > 0]
    if not len(some):
        return np.array([np.nextafter(0, 1)])
    low, high = some.min(), some.max()
    between = np.geomspace(low, high, bars + 1) if log else np.linspace(low, high, bars + 1)
    return np.unique(np.concatenate([[np.nextafter(0, 1)], between[1:-1]]))


def distances(x: Floats, y: Floats, *, ends: Floats) -> Distances | None:
    """Compute the distances between two samples; None if one is empty.

    Parameters
    ----------
    x, y
        The samples; one-dimensional, of any length.
    ends
        Bin edges of the Jensen-Shannon distances, see ``bins_of``.
    """
    if not len(x) or not len(y):
        return None
    p, q = (
        np.bincount(np.digitize(one, ends), minlength=len(ends) + 1) / len(one) for one in (x, y)
    )
    js = _js(p, q)
    return Distances(
        ks=_ks(x, y),
        wasserstein=float(wasserstein_distance(x, y)),
        js_distance=js,
        js_divergence=js**2,
    )


def bootstrap(
    x: Floats, y: Floats, *, ends: Floats, draws: int, seed: int
) -> tuple[Distances, Distances] | None:
    """Return the distances of two samples ± their standard errors; None if one is empty.

    The errors are from a bootstrap of both samples, and lower limits are at least 0. This is not
    a confidence interval. Two samples of one distribution have a distance above 0, so small
    distances are biased upward, and those of bootstrap samples even more.

    Parameters
    ----------
    x, y, ends
        See ``distances``.
    draws, seed
        Number of bootstrap samples, and the seed.

    Returns
    -------
    low, high
        Limits of each distance.
    """
    found = distances(x, y, ends=ends)
    if found is None:
        return None
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        again = distances(rng.choice(x, len(x)), rng.choice(y, len(y)), ends=ends)
        assert again is not None
        drawn.append(astuple(again))
    value, error = np.array(astuple(found)), np.std(drawn, axis=0)
    low, high = np.maximum(value - error, 0.0).tolist(), (value + error).tolist()
    return Distances(*low), Distances(*high)


def _ks(x: Floats, y: Floats) -> float:
    with np.errstate(all="ignore"):  # the unused p-value is undefined for one value
        return float(ks_2samp(x, y, method="asymp").statistic)


def _js(p: Floats, q: Floats) -> float:
    with np.errstate(invalid="ignore"):  # rounding can make a small divergence negative
        return float(np.nan_to_num(jensenshannon(p, q)))


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
        grid = (
            np.expm1(np.linspace(0, np.log1p(top), _POINTS))
            if statistic == "degree"
            else (np.linspace(0, top, _POINTS))
        )
        x = np.unique(np.append(grid, [0.0, top]))
    share = np.searchsorted(np.sort(values), x, side="right") / max(len(values), 1)
    return x.tolist(), share.tolist()
