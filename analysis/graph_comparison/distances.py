"""How far the distributions of two samples are apart: degrees, clustering, strengths, core numbers."""

from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance

__all__ = ["MEASURES", "Distances", "bins_of", "bootstrap", "distances"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Distances:
    """Distances of two distributions.

    Parameters
    ----------
    ks
        Kolmogorov-Smirnov statistic: the largest difference of the distribution functions.
    wasserstein
        1-Wasserstein distance, the area between the distribution functions; in the unit of
        what is compared.
    js_distance
        Jensen-Shannon distance of the histograms: the root of the divergence.
    js_divergence
        Jensen-Shannon divergence of the histograms, in nats: from 0 to log 2 = 0.693.
    """

    ks: float
    wasserstein: float
    js_distance: float
    js_divergence: float


MEASURES = tuple(f.name for f in fields(Distances))


def bins_of(x: Floats, y: Floats, *, bars: int, log: bool) -> Floats:
    """Return the ends of the bins that Jensen-Shannon distances of two samples are taken over.

    One bin holds 0 alone. The others go from the lowest value above 0 to the highest of both
    samples, of equal width, on a scale of logarithms if asked; values beyond, of other
    samples, count in the first and the last of them.

    Parameters
    ----------
    x, y
        The samples; none below 0.
    bars
        Bins besides that of 0.
    log
        Whether they are of equal width on a scale of logarithms.

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
    """Return the distances of two samples; None where one is empty.

    Parameters
    ----------
    x, y
        The samples; (n,) each, of their own length.
    ends
        Bins of the Jensen-Shannon distances, see ``bins_of``.
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
    """Return the distances of two samples ± their standard errors, not below 0; None where one is empty.

    The errors are those of a bootstrap of both samples. This is no confidence interval: two
    samples of one distribution have a distance above 0, so near 0 a distance is biased upward,
    and that of bootstrap samples more so.

    Parameters
    ----------
    x, y, ends
        See ``distances``.
    draws, seed
        How often they are drawn, and the seed.

    Returns
    -------
    low, high
        Of each distance on its own.
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
    with np.errstate(all="ignore"):  # the p-value, which is not used, has none for one value
        return float(ks_2samp(x, y, method="asymp").statistic)


def _js(p: Floats, q: Floats) -> float:
    with np.errstate(invalid="ignore"):  # of nearly equal histograms, rounding leaves a root of < 0
        return float(np.nan_to_num(jensenshannon(p, q)))
