"""Ridge regression in closed form from moments, and its penalty by cross-validation over folds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analysis.transcoder.moments import Moments, joined
from atlas.errors import BadActivations

__all__ = ["Line", "SourceSpectrum", "Spectra", "choose", "fit", "spectrum", "squared_error"]


@dataclass(frozen=True, eq=False)
class Line:
    """An affine map ``(vector - x) @ weight + y``, in float64.

    Its reference point is near the data, because a bias at 0 would lose precision if the source
    has a large mean.

    Parameters
    ----------
    weight
        (source, target).
    x
        (source,). The reference point, usually the mean of the source.
    y
        (target,). Value of the map at the reference point.
    same
        Whether source and target are the same site. The map is then the identity, with an
        error of exactly 0.
    """

    weight: Tensor
    x: Tensor
    y: Tensor
    same: bool = False

    @property
    def bias(self) -> Tensor:
        """Value of the map at 0; (target,)."""
        return self.y - self.x @ self.weight

    def about(self, x: Tensor) -> "Line":
        """Return the same map with another reference point."""
        return replace(self, x=x, y=self.y + (x - self.x) @ self.weight)

    def single(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return weight, reference point, and the value there, in float32.

        The point is rounded before the value is computed, so this rounding adds no error.
        """
        line = self.about(self.x.float().double())
        return line.weight.float(), line.x.float(), line.y.float()


@dataclass(frozen=True, eq=False)
class SourceSpectrum:
    """Eigendecomposition of the source's centred sums of products.

    Parameters
    ----------
    values
        (source,). Eigenvalues, ascending, none below 0.
    vectors
        (source, source). Eigenvectors in columns.
    rank
        Number of eigenvalues above rounding error.
    unit
        Number that a penalty of 1 adds to each eigenvalue: the mean of the eigenvalues.
    """

    values: Tensor
    vectors: Tensor
    rank: int
    unit: float

    def inverse(self, penalty: float) -> Tensor:
        """Return the inverse of each eigenvalue with the penalty added; (source,).

        Without a penalty, directions in which the source does not vary get 0, which selects
        the least-squares map of smallest norm.
        """
        if penalty == 0.0:
            index = torch.arange(len(self.values), device=self.values.device)
            varying = index >= len(self.values) - self.rank
            return torch.where(varying, 1 / torch.where(varying, self.values, 1.0), 0.0)
        return 1 / (self.values + penalty * self.unit) if self.unit else self.values


def spectrum(xx: Tensor) -> SourceSpectrum:
    """Decompose the source's centred sums of products.

    Raises
    ------
    BadActivations
        If they have NaN or Inf.
    """
    if not bool(xx.isfinite().all()):
        raise BadActivations(
            "The activations at the source of the map have NaN or Inf. To find the cause, run `atlas doctor`, or "
            "run the model in float32."
        )
    if not len(xx):
        return SourceSpectrum(xx.new_zeros(0), xx, 0, 0.0)
    values, vectors = torch.linalg.eigh(xx)
    values = values.clamp(min=0)
    # The tolerance of numpy.linalg.matrix_rank.
    rounding = float(values[-1]) * len(values) * torch.finfo(values.dtype).eps
    return SourceSpectrum(values, vectors, int((values > rounding).sum()), float(values.mean()))


def fit(moments: Moments, of: SourceSpectrum, penalty: float) -> Line:
    """Fit a map by ridge regression.

    Parameters
    ----------
    moments
        Moments of the tokens.
    of
        Spectrum of their source.
    penalty
        Penalty in units of the mean variance of the source's dimensions: scikit-learn's ``alpha``
        is ``penalty * of.unit``. The bias is not penalized.
    """
    turned = of.vectors.T @ moments.xy
    weight = of.vectors @ (of.inverse(penalty)[:, None] * turned)
    return Line(weight, moments.x, moments.y)


def squared_error(line: Line, moments: Moments) -> Tensor:
    """Return the sum of squared errors of a map in each dimension; (target,)."""
    if line.same:
        return torch.zeros_like(moments.yy)
    # The mean of the errors, and the squared deviations from it.
    offset = moments.y - line.y - (moments.x - line.x) @ line.weight
    residual = moments.yy - (line.weight * (2 * moments.xy - moments.xx @ line.weight)).sum(0)
    return residual.clamp(min=0) + moments.n * offset**2


class Spectra:
    """Cache of spectra of the source over sets of folds.

    Parameters
    ----------
    products
        Function from a fold to its moments, of which only the source's are used.
    """

    def __init__(self, products: Callable[[int], Moments]) -> None:
        self._products = products
        self._known: dict[frozenset[int], SourceSpectrum] = {}

    def of(self, folds: Iterable[int]) -> SourceSpectrum:
        """Return the spectrum of the source over a set of folds."""
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
        Moments of each fold.
    spectra
        Spectra of the source.
    penalties
        Penalties to choose from; ties are resolved by the first.

    Returns
    -------
    list of float
        The penalty for the map that is scored on each fold. It has the smallest error of maps
        fitted without this fold and one other fold, on that other fold, summed over all others.
        The choice is therefore independent of the scored fold.
    float
        The penalty for the map of all tokens. It has the smallest error of maps fitted without
        one fold, on that fold, summed over all folds.
    """
    every = range(len(moments))
    if len(penalties) == 1:
        return [penalties[0]] * len(moments), penalties[0]
    nested = torch.zeros(len(moments), len(penalties), dtype=torch.float64)
    outer = torch.zeros(len(penalties), dtype=torch.float64)
    for f in every:
        outer += _errors(moments, spectra, [i for i in every if i != f], penalties, held_out=[f])[f]
        for g in range(f):
            fitted = [i for i in every if i not in (f, g)]
            found = _errors(moments, spectra, fitted, penalties, held_out=[f, g])
            nested[f] += found[g]
            nested[g] += found[f]
    return [penalties[i] for i in nested.argmin(1)], penalties[int(outer.argmin())]


def _errors(
    moments: Sequence[Moments],
    spectra: Spectra,
    fitted: Sequence[int],
    penalties: Sequence[float],
    *,
    held_out: Sequence[int],
) -> dict[int, Tensor]:
    """Return the squared error on each held-out fold for every penalty, summed over dimensions.

    In the eigenbasis, penalties change a map only by a factor for each row, so the errors for
    all penalties cost as much as those for one.
    """
    train, of = joined([moments[f] for f in fitted]), spectra.of(fitted)
    turned = of.vectors.T @ train.xy
    outer = turned @ turned.T
    factors = torch.stack([of.inverse(p) for p in penalties])
    found = {}
    for f in held_out:
        seen = moments[f].about(train.x, train.y)
        linear = (turned * (of.vectors.T @ seen.xy)).sum(1)
        square = (of.vectors.T @ seen.xx @ of.vectors) * outer
        found[f] = (
            seen.yy.sum() - 2 * factors @ linear + ((factors @ square) * factors).sum(1)
        ).cpu()
    return found


def _source(m: Moments) -> Moments:
    """Return the moments of the source, without the target."""
    return Moments(m.n, m.x, m.y[:0], m.xx, m.xy[:, :0], m.yy[:0])
