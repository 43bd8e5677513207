"""Fit the subtractions from the target: an affine map, random components of equal variance, token means."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.residual.activations import ActivationRows, Activations, subtract_prediction
from analysis.residual.means import Prior, Sums, TokenTable
from analysis.residual.settings import ResidualSettings
from analysis.transcoder.moments import Moments, Stream, joined
from analysis.transcoder.solve import Line, Spectra, choose, fit, spectrum
from atlas.amounts import counted
from atlas.errors import BadInput
from atlas.progress import Progress
from ingest.forward.site_vectors import EMBEDDING
from ingest.sae.activation_transforms import Components, Map, MapAndTokenMeans, TokenMeans

__all__ = ["Fitted", "RandomComponents", "draw_components", "fit_all", "variance"]

#: Random orders of components tried for a draw, and the tolerance as a share of the total variance.
TRIES, NEAR = 100, 0.002


@dataclass(frozen=True, eq=False)
class Fitted:
    """Map, components and token means, fitted on the documents of the map.

    Parameters
    ----------
    map
        The map from the source to the target.
    mean
        (target,). Mean of the target.
    directions
        (target, target). Principal components of the target in columns, by variance.
    token_means
        Shrunk mean of the target for each token id. From the embedding, the prior is the
        prediction of the map for the id; from other sites, it is the overall mean. The plain
        mean of a rare id is mostly noise, and subtracting it would make the residual
        predictable from the id. Shrinking rare ids towards the overall mean leaves a component
        that is almost linear in the embedding, and a linear probe can recover it.
    shrunk
        Weight of the prior in each token mean, in tokens, chosen by the error on held-out
        documents. None if all documents fell into one half, so that it could not be chosen.
    penalty
        The map's penalty, in units of the mean variance of the source's dimensions.
    r2
        In-sample R²: 1 - squared error / centred sum of squares, over all dimensions.
    tokens, documents
        Number of tokens and documents in the fit.
    constant
        Number of constant dimensions of the target.
    """

    map: Map
    mean: Tensor
    directions: Tensor
    token_means: TokenMeans | MapAndTokenMeans
    shrunk: float | None
    penalty: float
    r2: float
    tokens: int
    documents: int
    constant: int


def fit_all(
    rows: Iterable[ActivationRows], settings: ResidualSettings, *, progress: Progress
) -> Fitted:
    """Fit the map, the principal components and the token means in one pass over tokens.

    Memory grows with the number of distinct ids, not with the number of tokens.

    Parameters
    ----------
    rows
        The tokens.
    settings
        The source, folds and penalties.
    progress
        Receives warnings on too few tokens and on constant dimensions.

    Raises
    ------
    BadInput
        If there are too few documents for folds, or the target does not vary.
    """
    sums = _Sums(settings.folds)
    for few in rows:
        sums.add(few)
    if len(sums.documents) < 3:
        raise BadInput(
            f"The map has {counted(len(sums.documents), 'document')} with text; expected 3 or more, because its penalty is "
            "chosen on held-out documents. Pass a longer text, or a larger map_share."
        )
    folds = [m for m in (s.moments("target") for s in sums.maps.values()) if m.n]
    pooled, target = joined(folds), sums.target.moments("")
    if not float(torch.trace(target.xx)) > 0:
        raise BadInput(
            f"{settings.target} is the same on all {pooled.n:,} tokens of the map, so there is nothing to train an "
            "SAE on. Choose another target."
        )
    line, penalty = _line(folds, pooled, settings, progress)
    constant = int((pooled.yy == 0).sum())
    if constant:
        progress.report(
            f"{constant:,} of {len(pooled.yy):,} dimensions of {settings.target} do not vary; they do not "
            "contribute to the results."
        )
    mapped = Map(settings.source, line.weight.float(), line.bias.float())
    table = _table(sums, line, target.x, settings, penalty=penalty)
    predicted = (line.weight * (2 * pooled.xy - pooled.xx @ line.weight)).sum()
    return Fitted(
        map=mapped,
        mean=target.x.float(),
        directions=torch.linalg.eigh(target.xx).eigenvectors.flip(1).float(),
        token_means=_token_means(table, mapped, target.x),
        shrunk=table.shrunk,
        penalty=penalty,
        r2=float(predicted / pooled.yy.sum()),
        tokens=pooled.n,
        documents=len(sums.documents),
        constant=constant,
    )


def _table(
    sums: "_Sums", line: Line, mean: Tensor, settings: ResidualSettings, *, penalty: float
) -> TokenTable:
    """Return the token means relative to the prediction of the map, or to the overall mean."""
    halves = [joined(some) for half in (0, 1) if (some := sums.half(half))]
    if len(halves) < 2:  # all documents are in one half, and no shrinkage is chosen
        halves = 2 * halves
    if settings.source != EMBEDDING:
        first, second = (half.y for half in halves)
        return sums.means.table(lambda _: mean, halves=(lambda _: first, lambda _: second))
    one, two = (_prediction(fit(half, spectrum(half.xx), penalty)) for half in halves)
    return sums.means.table(_prediction(line), halves=(one, two))


def _prediction(line: Line) -> Prior:
    """Return the function that applies a map."""
    weight, bias = line.weight, line.bias
    return lambda x: x @ weight + bias


def _token_means(table: TokenTable, mapped: Map, mean: Tensor) -> TokenMeans | MapAndTokenMeans:
    """Return the token means as a subtraction."""
    if mapped.source != EMBEDDING:
        return TokenMeans(table.ids, (mean + table.off).float(), mean.float())
    return MapAndTokenMeans(mapped.source, mapped.weight, mapped.bias, table.ids, table.off.float())


def _line(
    folds: list[Moments], pooled: Moments, settings: ResidualSettings, progress: Progress
) -> tuple[Line, float]:
    """Return the map fitted on all tokens, and its penalty, chosen by cross-validation."""
    penalties: tuple[float, ...] = settings.penalties
    if pooled.n <= len(pooled.x):
        penalties = tuple(p for p in penalties if p > 0) or (1e-3,)
        progress.report(
            f"The map has {len(pooled.x):,} input dimensions, but only {pooled.n:,} tokens to fit; only ridge "
            "penalties above 0 are tried. Pass a longer text for a reliable map."
        )
    spectra = Spectra(lambda fold: folds[fold])
    if len(folds) < 3:  # all documents are in two folds
        penalty = next((p for p in penalties if p > 0), penalties[0])
    else:
        _, penalty = choose(folds, spectra, penalties)
    return fit(pooled, spectra.of(range(len(folds))), penalty), penalty


class _Sums:
    """All sums over the tokens."""

    def __init__(self, folds: int) -> None:
        self.folds = folds
        self.documents: set[int] = set()
        self.maps: dict[int, Stream] = {}
        self.means = Sums()
        self.target = Stream(0, {})

    def add(self, rows: ActivationRows) -> None:
        """Add tokens; the number of a document determines its fold."""
        if not self.maps:
            widths = rows.source.shape[1], rows.target.shape[1]
            self.maps = {f: Stream(widths[0], {"target": widths[1]}) for f in range(self.folds)}
            self.target = Stream(widths[1], {"": 0})
        self.documents.update(np.unique(rows.documents).tolist())
        for fold, stream in self.maps.items():
            mine = torch.from_numpy(np.flatnonzero(rows.documents % self.folds == fold))
            stream.add(rows.source[mine], {"target": rows.target[mine]})
        self.target.add(rows.target, {"": rows.target[:, :0]})
        self.means.add(rows, torch.from_numpy(rows.documents % self.folds % 2))

    def half(self, half: int) -> list[Moments]:
        """Return the moments of the folds of one half of the documents."""
        folds = (s.moments("target") for f, s in self.maps.items() if f % 2 == half)
        return [m for m in folds if m.n]


@dataclass(frozen=True, eq=False)
class RandomComponents:
    """A draw of components.

    Parameters
    ----------
    less
        The components.
    share
        Share of the target's variance along them, on the training documents.
    """

    less: Components
    share: float


def variance(
    activations: Activations, read: Callable[[ActivationRows], Tensor]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of each dimension of a function of the activations.

    Parameters
    ----------
    activations
        The tokens.
    read
        Computes (tokens, dimensions) from rows of activations.
    """
    n, mean, m2 = 0, np.zeros(1), np.zeros(1)
    for rows in activations.chunks():
        x = read(rows).double().numpy()
        own, total = x.mean(0), n + len(x)
        off = own - mean
        m2 = m2 + ((x - own) ** 2).sum(0) + off**2 * (n * len(x) / total)
        mean, n = mean + off * (len(x) / total), total
    return mean, m2 / n


def draw_components(
    fitted: Fitted, activations: Activations, settings: ResidualSettings
) -> tuple[list[RandomComponents], float]:
    """Draw random components that remove as much variance as the map.

    Both variances are measured on the training documents, on which neither was fitted.

    Returns
    -------
    list of Drawn
        One for each draw.
    float
        The share of the target's variance that the map removes.
    """
    _, pooled = variance(activations, lambda rows: rows.target)
    _, rest = variance(
        activations, lambda rows: subtract_prediction(fitted.map, rows, source=settings.source)
    )
    _, along = variance(activations, lambda r: (r.target - fitted.mean) @ fitted.directions)
    total = float(pooled.sum())
    taken = 1 - float(rest.sum()) / total
    drawn = []
    for draw in range(settings.draws):
        generator = np.random.default_rng([settings.split_seed, draw])
        chosen = _chosen(along / total, taken, generator)
        less = Components(fitted.mean, fitted.directions[:, torch.from_numpy(chosen)].contiguous())
        drawn.append(RandomComponents(less, float(along[chosen].sum() / total)))
    return drawn, taken


def _chosen(
    shares: NDArray[np.float64], wanted: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw components whose shares of variance add up to about ``wanted``, and no more.

    In a random order, each component that still fits is taken. The first order within the
    tolerance is used, or else the order with the smallest gap.
    """
    best, gap = np.zeros(0, dtype=np.int64), np.inf
    for _ in range(TRIES):
        taken, room = [], wanted
        for i in generator.permutation(len(shares)):
            if shares[i] <= room:
                taken.append(i)
                room -= shares[i]
        if room < gap:
            best, gap = np.sort(np.array(taken, dtype=np.int64)), room
        if gap <= NEAR:
            break
    return best
