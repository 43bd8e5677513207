"""What is taken from the target: an affine map of the source, random components as large, token means."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.residual.activations import Activations, Rows, left
from analysis.residual.means import Prior, Sums, TokenTable
from analysis.residual.settings import ResidualSettings
from analysis.transcoder.moments import Moments, Stream, joined
from analysis.transcoder.solve import Line, Spectra, choose, fit, spectrum
from atlas.errors import BadInput
from atlas.progress import Progress
from ingest.forward.site_vectors import EMBEDDING
from ingest.sae.activation_transforms import Components, Map, MapAndTokenMeans, TokenMeans

__all__ = ["Drawn", "Fitted", "draw_components", "fit_all", "variance"]

#: Orders of the components that are tried for a draw, and the share of the whole variance that is near.
TRIES, NEAR = 100, 0.002


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was fitted on the documents of the map.

    Parameters
    ----------
    map
        The map from the source to the target.
    mean
        (target,). Mean of the target.
    directions
        (target, target). Principal components of the target, one a column, by variance.
    token_means
        The mean of the target on each token id, shrunk: from the embedding towards what the
        map says of the id, from elsewhere towards the mean of all. The plain mean of a rare
        id is noise for the most part: taken away, it would put into what is left something
        that the id tells, which was not there before. And what shrinking to the mean of all
        leaves of rare ids is nearly linear in the embedding, where a map would have taken it.
    shrunk
        How many tokens of that are mixed into the mean of each id, chosen as the map's
        penalty is: by what predicts documents left out best. None if all documents fell
        into one half, and it could not be chosen.
    penalty
        The map's penalty, in units of the mean variance of the source's dimensions.
    r2
        In sample: 1 - squared error / centred sum of squares, over all dimensions.
    tokens, documents
        Those it was fitted on.
    constant
        Dimensions of the target that do not vary.
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


def fit_all(rows: Iterable[Rows], settings: ResidualSettings, *, progress: Progress) -> Fitted:
    """Fit the map, the principal components and the token means in one look at some tokens.

    Memory does not grow with the number of tokens, but with that of distinct ids.

    Parameters
    ----------
    rows
        The tokens.
    settings
        The source, folds and penalties.
    progress
        Told where there are fewer tokens than dimensions, or dimensions that do not vary.

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
            f"The map is fitted on {len(sums.documents)} document(s) with text, and 3 or more are needed, to "
            "choose its penalty by documents left out: give a longer text, or a larger map_share."
        )
    folds = [m for m in (s.moments("target") for s in sums.maps.values()) if m.n]
    whole, target = joined(folds), sums.target.moments("")
    if not float(torch.trace(target.xx)) > 0:
        raise BadInput(
            f"{settings.target} is the same on all {whole.n:,} tokens the map is fitted on: there is nothing "
            "to train an SAE on."
        )
    line, penalty = _line(folds, whole, settings, progress)
    constant = int((whole.yy == 0).sum())
    if constant:
        progress.report(
            f"{constant:,} of {len(whole.yy):,} dimensions of {settings.target} do not vary; they weigh "
            "nothing in what follows."
        )
    mapped = Map(settings.source, line.weight.float(), line.bias.float())
    table = _table(sums, line, target.x, settings, penalty=penalty)
    predicted = (line.weight * (2 * whole.xy - whole.xx @ line.weight)).sum()
    return Fitted(
        map=mapped,
        mean=target.x.float(),
        directions=torch.linalg.eigh(target.xx).eigenvectors.flip(1).float(),
        token_means=_token_means(table, mapped, target.x),
        shrunk=table.shrunk,
        penalty=penalty,
        r2=float(predicted / whole.yy.sum()),
        tokens=whole.n,
        documents=len(sums.documents),
        constant=constant,
    )


def _table(
    sums: "_Sums", line: Line, mean: Tensor, settings: ResidualSettings, *, penalty: float
) -> TokenTable:
    """Return the token means about what the map says of an id, or about the mean of all."""
    halves = [joined(some) for half in (0, 1) if (some := sums.half(half))]
    if len(halves) < 2:  # all documents fell into folds of one half, and nothing is chosen
        halves = 2 * halves
    if settings.source != EMBEDDING:
        first, second = (half.y for half in halves)
        return sums.means.table(lambda _: mean, halves=(lambda _: first, lambda _: second))
    one, two = (_told(fit(half, spectrum(half.xx), penalty)) for half in halves)
    return sums.means.table(_told(line), halves=(one, two))


def _told(line: Line) -> Prior:
    """Return what makes of vectors what the map does."""
    weight, bias = line.weight, line.bias
    return lambda x: x @ weight + bias


def _token_means(table: TokenTable, mapped: Map, mean: Tensor) -> TokenMeans | MapAndTokenMeans:
    """Return the token means as they are taken away."""
    if mapped.source != EMBEDDING:
        return TokenMeans(table.ids, (mean + table.off).float(), mean.float())
    return MapAndTokenMeans(mapped.source, mapped.weight, mapped.bias, table.ids, table.off.float())


def _line(
    folds: list[Moments], whole: Moments, settings: ResidualSettings, progress: Progress
) -> tuple[Line, float]:
    """Return the map of all tokens, and its penalty, chosen by cross-validation."""
    penalties: tuple[float, ...] = settings.penalties
    if whole.n <= len(whole.x):
        penalties = tuple(p for p in penalties if p > 0) or (1e-3,)
        progress.report(
            f"The map has {len(whole.x):,} dimensions to read and {whole.n:,} tokens to fit on, fewer than it "
            "takes: only ridge penalties above 0 are tried. Give a longer text for a map to be relied on."
        )
    spectra = Spectra(lambda fold: folds[fold])
    if len(folds) < 3:  # all documents fell into two folds
        penalty = next((p for p in penalties if p > 0), penalties[0])
    else:
        _, penalty = choose(folds, spectra, penalties)
    return fit(whole, spectra.of(range(len(folds))), penalty), penalty


class _Sums:
    """Everything that is summed over the tokens."""

    def __init__(self, folds: int) -> None:
        self.folds = folds
        self.documents: set[int] = set()
        self.maps: dict[int, Stream] = {}
        self.means = Sums()
        self.target = Stream(0, {})

    def add(self, rows: Rows) -> None:
        """Add some tokens; a document's number says its fold."""
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
class Drawn:
    """A draw of components.

    Parameters
    ----------
    less
        The components.
    share
        Share of the target's variance on the training documents that lies along them.
    """

    less: Components
    share: float


def variance(
    activations: Activations, read: Callable[[Rows], Tensor]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of each dimension of what is made of all tokens.

    Parameters
    ----------
    activations
        The tokens.
    read
        Makes (tokens, dimensions) of some.
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
) -> tuple[list[Drawn], float]:
    """Draw random components that take away as much variance as the map does.

    Both are measured on the training documents, on which neither was fitted.

    Returns
    -------
    list of Drawn
        One a draw.
    float
        The share of the target's variance that the map takes away.
    """
    _, whole = variance(activations, lambda rows: rows.target)
    _, rest = variance(activations, lambda rows: left(fitted.map, rows, source=settings.source))
    _, along = variance(activations, lambda r: (r.target - fitted.mean) @ fitted.directions)
    total = float(whole.sum())
    taken = 1 - float(rest.sum()) / total
    drawn = []
    for draw in range(settings.draws):
        generator = np.random.default_rng([settings.split_seed, draw])
        chosen = _chosen(along / total, taken, generator)
        less = Components(fitted.mean, fitted.directions[:, torch.from_numpy(chosen)].contiguous())
        drawn.append(Drawn(less, float(along[chosen].sum() / total)))
    return drawn, taken


def _chosen(
    shares: NDArray[np.float64], wanted: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw components whose shares add up to what is wanted, as nearly as random orders give it.

    Along a random order each is taken that still fits; of several orders the first that
    comes near is used, else the nearest.
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
