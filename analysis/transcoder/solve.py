"""Ridge regression in closed form from moments, and its penalty by cross-validation over folds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analysis.transcoder.moments import Moments, joined
from atlas.errors import BadActivations

__all__ = ["Line", "Spectra", "Spectrum", "choose", "fit", "spectrum", "squared_error"]


@dataclass(frozen=True, eq=False)
class Line:
    """An affine map ``(vector - x) @ weight + y``, in float64.

    It is told about a point near the data: a bias that has to undo a large mean of the
    source would lose the digits of what varies.

    Parameters
    ----------
    weight
        (source, target).
    x
        (source,). The point, as a rule the mean of the source.
    y
        (target,). What the map gives there.
    same
        Whether source and target are one site: the map then changes nothing and has no
        error, which rounding would not quite give.
    """

    weight: Tensor
    x: Tensor
    y: Tensor
    same: bool = False

    @property
    def bias(self) -> Tensor:
        """What the map gives at 0; (target,)."""
        return self.y - self.x @ self.weight

    def about(self, x: Tensor) -> "Line":
        """Return the same map, told about another point."""
        return replace(self, x=x, y=self.y + (x - self.x) @ self.weight)

    def single(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return weight, point, and what the map gives there, in float32.

        The point is rounded first, so that its rounding changes nothing.
        """
        line = self.about(self.x.float().double())
        return line.weight.float(), line.x.float(), line.y.float()


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The source's centred sums of products, by their eigenvectors.

    Parameters
    ----------
    values
        (source,). Eigenvalues, ascending, none below 0.
    vectors
        (source, source). Eigenvectors, one a column.
    rank
        How many eigenvalues stand out from rounding.
    unit
        What a penalty of 1 adds to an eigenvalue: the mean of the eigenvalues.
    """

    values: Tensor
    vectors: Tensor
    rank: int
    unit: float

    def inverse(self, penalty: float) -> Tensor:
        """Return the inverse of each eigenvalue with the penalty added; (source,).

        Without a penalty, directions in which the source does not vary get 0: of all
        maps of least error that is the smallest.
        """
        if penalty == 0.0:
            kept = torch.arange(len(self.values), device=self.values.device)
            kept = kept >= len(self.values) - self.rank
            return torch.where(kept, 1 / torch.where(kept, self.values, 1.0), 0.0)
        return 1 / (self.values + penalty * self.unit) if self.unit else self.values


def spectrum(xx: Tensor) -> Spectrum:
    """Decompose the source's centred sums of products.

    Raises
    ------
    BadActivations
        If they hold NaN or Inf.
    """
    if not bool(xx.isfinite().all()):
        raise BadActivations(
            "NaN or Inf came out of the model at the source of the map; `atlas doctor` and a run in float32 "
            "may tell where they come from."
        )
    if not len(xx):
        return Spectrum(xx.new_zeros(0), xx, 0, 0.0)
    values, vectors = torch.linalg.eigh(xx)
    values = values.clamp(min=0)
    # What numpy.linalg.matrix_rank takes for rounding.
    rounding = float(values[-1]) * len(values) * torch.finfo(values.dtype).eps
    return Spectrum(values, vectors, int((values > rounding).sum()), float(values.mean()))


def fit(moments: Moments, of: Spectrum, penalty: float) -> Line:
    """Return the map of least squared error plus penalty.

    Parameters
    ----------
    moments
        Of the tokens it is fitted on.
    of
        The spectrum of their source.
    penalty
        In units of the mean variance of the source's dimensions: scikit-learn's ``alpha``
        is ``penalty * of.unit``. The bias is free.
    """
    turned = of.vectors.T @ moments.xy
    weight = of.vectors @ (of.inverse(penalty)[:, None] * turned)
    return Line(weight, moments.x, moments.y)


def squared_error(line: Line, moments: Moments) -> Tensor:
    """Return a map's sum of squared errors in each dimension, over any tokens; (target,)."""
    if line.same:
        return torch.zeros_like(moments.yy)
    # The errors' own mean, and what is left about it.
    offset = moments.y - line.y - (moments.x - line.x) @ line.weight
    left = moments.yy - (line.weight * (2 * moments.xy - moments.xx @ line.weight)).sum(0)
    return left.clamp(min=0) + moments.n * offset**2


class Spectra:
    """Spectra of the source on any folds together, each worked out once.

    Parameters
    ----------
    products
        Gives the moments of a fold; of these only the source's are used.
    """

    def __init__(self, products: Callable[[int], Moments]) -> None:
        self._products = products
        self._known: dict[frozenset[int], Spectrum] = {}

    def of(self, folds: Iterable[int]) -> Spectrum:
        """Return the spectrum of the source on these folds together."""
        key = frozenset(folds)
        if key not in self._known:
            sources = (_source(self._products(f)) for f in sorted(key))
            self._known[key] = spectrum(joined(list(sources)).xx)
        return self._known[key]


def choose(
    moments: Sequence[Moments], spectra: Spectra, penalties: Sequence[float]
) -> tuple[list[float], float]:
    """Choose penalties by cross-validation over folds.

    Parameters
    ----------
    moments
        Of each fold.
    spectra
        Of the source.
    penalties
        Those to choose from; of equal ones the first is taken.

    Returns
    -------
    list of float
        For each fold the penalty for a map that is scored there: of maps fitted on all
        folds but this and another, that of least error on the other, summed over others.
        So it knows nothing of the fold.
    float
        The penalty for a map of all tokens: of maps fitted on all folds but one, that of
        least error on this one, summed over all.
    """
    every = range(len(moments))
    if len(penalties) == 1:
        return [penalties[0]] * len(moments), penalties[0]
    nested = torch.zeros(len(moments), len(penalties), dtype=torch.float64)
    outer = torch.zeros(len(penalties), dtype=torch.float64)
    for f in every:
        outer += _errors(moments, spectra, [i for i in every if i != f], penalties, held=[f])[f]
        for g in range(f):
            fitted = [i for i in every if i not in (f, g)]
            found = _errors(moments, spectra, fitted, penalties, held=[f, g])
            nested[f] += found[g]
            nested[g] += found[f]
    return [penalties[i] for i in nested.argmin(1)], penalties[int(outer.argmin())]


def _errors(
    moments: Sequence[Moments],
    spectra: Spectra,
    fitted: Sequence[int],
    penalties: Sequence[float],
    *,
    held: Sequence[int],
) -> dict[int, Tensor]:
    """Return the squared error on each fold held out, for every penalty, all dimensions summed.

    In the basis of the eigenvectors a map is the same for every penalty but for a factor a
    row, so errors of all penalties cost as much as one.
    """
    train, of = joined([moments[f] for f in fitted]), spectra.of(fitted)
    turned = of.vectors.T @ train.xy
    outer = turned @ turned.T
    factors = torch.stack([of.inverse(p) for p in penalties])
    found = {}
    for f in held:
        seen = moments[f].about(train.x, train.y)
        linear = (turned * (of.vectors.T @ seen.xy)).sum(1)
        square = (of.vectors.T @ seen.xx @ of.vectors) * outer
        found[f] = (
            seen.yy.sum() - 2 * factors @ linear + ((factors @ square) * factors).sum(1)
        ).cpu()
    return found


def _source(m: Moments) -> Moments:
    """Return the moments of the source alone."""
    return Moments(m.n, m.x, m.y[:0], m.xx, m.xy[:, :0], m.yy[:0])
