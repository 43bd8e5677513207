"""Scores of maps: R² and errors from moments, scores of token means, and intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.statistics.document_splits import document_groups
from analysis.statistics.intervals import bootstrap_weights, quantile_interval
from analysis.transcoder.accumulate import MapMoments
from analysis.transcoder.activation_stream import StreamRows, TextStream
from analysis.transcoder.affine import FittedMap, Maps
from analysis.transcoder.moments import Moments, joined
from analysis.transcoder.solve import squared_error
from analysis.transcoder.token_means import TokenBlock
from atlas.amounts import counted
from atlas.progress import Progress

__all__ = [
    "GROUPS",
    "Groups",
    "MapIntervals",
    "MapScores",
    "ScoringMap",
    "intervals",
    "limits",
    "means_of",
    "scores",
    "token_scores",
    "varies",
]


@dataclass(frozen=True, eq=False)
class MapScores:
    """Errors of maps over a set of tokens.

    Parameters
    ----------
    n
        Number of tokens.
    error
        float64, (target,). Sum of squared errors.
    total
        float64, (target,). Sum of squared deviations from the mean of these tokens.
    mean
        float64, (target,). Mean of these tokens.
    """

    n: int
    error: Tensor
    total: Tensor
    mean: Tensor

    @property
    def r2(self) -> float | None:
        """Mean R² over the dimensions that vary; None if none does."""
        varying = varies(self.n, self.mean, self.total)
        if not varying.any():
            return None
        return float((1 - self.error[varying] / self.total[varying]).mean())

    @property
    def weighted(self) -> float | None:
        """Variance-weighted R²: both sums are over all dimensions; None if none varies."""
        return _share(self.error, self.total) if self.constant < len(self.total) else None

    @property
    def published(self) -> float | None:
        """R² of the original study, with deviations from a single mean of all dimensions."""
        total = self.total.sum() + self.n * ((self.mean - self.mean.mean()) ** 2).sum()
        return 1 - float(self.error.sum() / total) if float(total) > 0 else None

    @property
    def mse(self) -> float:
        """Mean squared error per token and dimension."""
        return float(self.error.sum()) / (self.n * len(self.error))

    @property
    def constant(self) -> int:
        """Number of dimensions that do not vary."""
        return int((~varies(self.n, self.mean, self.total)).sum())


def varies(n: int, mean: Tensor, total: Tensor) -> Tensor:
    """Return which dimensions vary by more than float32 rounding of the mean; (target,)."""
    return total > n * (torch.finfo(torch.float32).eps * mean) ** 2


def _score(maps: Sequence[FittedMap], moments: Callable[[int], Moments]) -> MapScores:
    """Score maps on their folds, for all tokens together."""
    folds = [(each.line, moments(f)) for each in maps for f in each.scored]
    error = torch.stack([squared_error(line, m) for line, m in folds]).sum(0)
    pooled = joined([_target(m) for _, m in folds])
    return MapScores(pooled.n, error, pooled.yy, pooled.y)


def scores(
    measured: MapMoments, target: str, maps: Maps
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Return the scores in an edge MAPS_TO, and scores by dimension.

    Parameters
    ----------
    measured
        Moments and sums by token id.
    target
        The target.
    maps
        The maps.

    Returns
    -------
    dict
        Properties by name; those with BOS are None without BOS.
    dict
        float64, (target,) each: ``variance``, ``mse``, ``r2`` and ``r2_in_sample``, NaN for
        dimensions that do not vary.
    """

    def text(f: int) -> Moments:
        return measured.text(target, f)

    held_out, seen = _score(maps.held_out, text), _score([maps.full], text)
    number = measured.counts.by_slot[::2]
    properties: dict[str, object] = {
        "tokens": int(number.sum()),
        "fit_tokens": round(np.mean([number[list(m.on)].sum() for m in maps.held_out])),
        "folds": sum(len(m.scored) for m in maps.held_out),
        "r2": held_out.r2,
        "r2_weighted": held_out.weighted,
        "mse": held_out.mse,
        "r2_in_sample": seen.r2,
        "r2_in_sample_weighted": seen.weighted,
        "mse_in_sample": seen.mse,
        "variance": float(seen.total.sum()) / (seen.n * len(seen.total)),
        "constant_dimensions": seen.constant,
        "penalty": maps.penalty,
        "steps": maps.steps,
        "rank": maps.rank,
        "rate": maps.rate,
    }
    properties |= token_scores(measured, target, maps) | _with_bos(measured, target, maps)
    if (token := properties["token_r2_weighted"]) is not None and held_out.weighted is not None:
        assert isinstance(token, float)
        properties["token_difference"] = held_out.weighted - token
    if maps.bos_full is None:
        properties["r2_published"] = seen.published
    varying = varies(seen.n, seen.mean, seen.total) & varies(
        held_out.n, held_out.mean, held_out.total
    )
    nan = torch.full_like(seen.total, torch.nan)
    by_dimension = {
        "variance": seen.total / seen.n,
        "mse": held_out.error / held_out.n,
        "r2": torch.where(varying, 1 - held_out.error / held_out.total, nan),
        "r2_in_sample": torch.where(varying, 1 - seen.error / seen.total, nan),
    }
    return properties, by_dimension


def _with_bos(measured: MapMoments, target: str, maps: Maps) -> dict[str, object]:
    if maps.bos_full is None:
        names = ("r2_with_bos", "r2_with_bos_weighted", "mse_with_bos", "bos_share")
        return dict.fromkeys(names)
    held_out = _score(maps.bos_held_out, lambda f: measured.both(target, f))
    seen = _score([maps.bos_full], lambda f: measured.both(target, f))
    alone = _score([maps.bos_full], lambda f: measured.bos(target, f))
    error = float(seen.error.sum())
    return {
        "r2_with_bos": held_out.r2,
        "r2_with_bos_weighted": held_out.weighted,
        "mse_with_bos": held_out.mse,
        "r2_published": seen.published,
        "bos_share": float(alone.error.sum()) / error if error else None,
    }


def token_scores(measured: MapMoments, target: str, maps: Maps) -> dict[str, object]:
    """Return the scores of token means on the tokens that the maps are scored on."""
    folds, errors, known = [], [], 0.0
    for each in maps.held_out:
        mean = joined([measured.target(target, f) for f in each.on]).y.cpu()
        for f in each.scored:
            spread = measured.target(target, f)
            error, centre = spread.yy.cpu().clone(), spread.y.cpu()
            for train, side in measured.sides(target, each.on, [f]):
                means, seen = means_of(train, side.ids, otherwise=mean)
                known += float(side.count[torch.from_numpy(seen)].sum())
                means -= centre
                sums = side.sums - side.count[:, None] * centre
                error += (means * (side.count[:, None] * means - 2 * sums)).sum(0)
            folds.append(spread)
            errors.append(error)
    pooled = joined(folds)
    held_out = MapScores(pooled.n, torch.stack(errors).sum(0), pooled.yy.cpu(), pooled.y.cpu())
    return {
        "token_r2": held_out.r2,
        "token_r2_weighted": held_out.weighted,
        "seen_share": known / held_out.n,
    } | _eta2(measured, target, maps.full.on)


def means_of(
    train: TokenBlock, ids: NDArray[np.int64], *, otherwise: Tensor
) -> tuple[Tensor, NDArray[np.bool_]]:
    """Return the mean of each id over the training tokens, and which ids occur there.

    Parameters
    ----------
    train
        The training tokens.
    ids
        The ids.
    otherwise
        (target,). The overall mean, for ids that do not occur.

    Returns
    -------
    float64 (ids, target), and bool (ids,).
    """
    at, seen = train.find(ids)
    means = otherwise.repeat(len(ids), 1)
    rows = torch.from_numpy(at[seen])
    means[torch.from_numpy(seen)] = train.sums[rows] / train.count[rows, None]
    return means, seen


def _eta2(measured: MapMoments, target: str, folds: Sequence[int]) -> dict[str, object]:
    pooled = joined([measured.target(target, f) for f in folds])
    mean, total = pooled.y.cpu(), float(pooled.yy.sum())
    between, ids = 0.0, 0
    for (side,) in measured.sides(target, folds):
        centred = side.sums - side.count[:, None] * mean
        between += float((centred**2 / side.count[:, None]).sum())
        ids += len(side.ids)
    if total <= 0:
        return {"token_eta2_weighted": None, "token_omega2_weighted": None}
    # If each id occurs once, noise and id effects are not distinguishable.
    within = (total - between) / (pooled.n - ids) if pooled.n > ids else None
    omega = None if within is None else (between - (ids - 1) * within) / (total + within)
    return {"token_eta2_weighted": between / total, "token_omega2_weighted": omega}


@dataclass(frozen=True, eq=False)
class Groups:
    """Sums over groups of documents, for the bootstrap.

    Parameters
    ----------
    n
        float64, (groups,). Number of tokens.
    error, token_error
        float64, (groups,). Squared errors of the map and of the token means, summed over
        dimensions.
    sums
        float64, (groups, target). Sums of the target minus any fixed vector.
    squares
        float64, (groups,). Squares of the same, summed over dimensions.
    """

    n: NDArray[np.float64]
    error: NDArray[np.float64]
    token_error: NDArray[np.float64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]


#: Lower and upper limit of an interval; None if it could not be computed.
Interval: TypeAlias = tuple[float | None, float | None]


@dataclass(frozen=True)
class MapIntervals:
    """95% bootstrap intervals of variance-weighted R², with the same documents for all three.

    Parameters
    ----------
    map, token
        R² of the map, and of the token means.
    difference
        R² of the map minus that of the token means.
    """

    map: Interval = (None, None)
    token: Interval = (None, None)
    difference: Interval = (None, None)


def limits(groups: Groups, *, draws: int, seed: int) -> MapIntervals:
    """Compute intervals by a bootstrap over groups of documents.

    Parameters
    ----------
    groups
        Sums over the groups.
    draws
        Number of bootstrap draws of all groups, with replacement.
    seed
        Seed of the draws.

    Returns
    -------
    All None without draws, or with fewer than two groups.
    """
    filled = groups.n > 0
    number = int(filled.sum())
    if draws == 0 or number < 2:
        return MapIntervals()
    rng = np.random.default_rng(seed)
    weights = bootstrap_weights(number, draws, rng)
    n, error, token_error, squares = (
        weights @ a[filled] for a in (groups.n, groups.error, groups.token_error, groups.squares)
    )
    total = squares - ((weights @ groups.sums[filled]) ** 2).sum(1) / n
    some = total > 0
    if not some.any():
        return MapIntervals()

    def between(share: NDArray[np.float64]) -> Interval:
        low, high = quantile_interval(share[some] / total[some])
        return float(low), float(high)

    return MapIntervals(
        between(total - error), between(total - token_error), between(token_error - error)
    )


def _share(error: Tensor, total: Tensor) -> float:
    return 1 - float(error.sum() / total.sum())


def _target(m: Moments) -> Moments:
    """Return the moments of the target, without the source."""
    return Moments(m.n, m.x[:0], m.y, m.xx[:0, :0], m.xy[:0], m.yy)


#: Number of document groups in the bootstrap, which limits the memory for sums.
GROUPS = 512


@dataclass(frozen=True, eq=False)
class ScoringMap:
    """A map in float32, from ``Line.single``, with the folds of its fit and of its score."""

    weight: Tensor
    x: Tensor
    y: Tensor
    on: tuple[int, ...]
    scored: tuple[int, ...]

    @classmethod
    def of(cls, fitted: FittedMap) -> "ScoringMap":
        """Convert a fitted map."""
        return cls(*fitted.line.single(), fitted.on, fitted.scored)

    def to(self, device: torch.device) -> "ScoringMap":
        """Return the map on a device."""
        weight, x, y = (t.to(device) for t in (self.weight, self.x, self.y))
        return replace(self, weight=weight, x=x, y=y)

    def errors(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the squared error on each token; float64, (tokens,)."""
        return ((x - self.x) @ self.weight + self.y - y).square().sum(1).cpu().double()


def intervals(
    text: TextStream,
    measured: MapMoments,
    maps: Mapping[str, Sequence[ScoringMap]],
    *,
    draws: int,
    seed: int,
    progress: Progress,
) -> dict[str, MapIntervals]:
    """Compute the 95% interval of each target's variance-weighted R², without BOS.

    The bootstrap resamples documents, or groups of them if there are more than 512. Maps and
    token means stay fixed; each token is predicted by those that are scored on its fold.

    Parameters
    ----------
    text
        The text.
    measured
        Moments and sums of the first pass.
    maps
        Maps by target.
    draws
        Draws of the bootstrap; with 0, the model does not run.
    seed
        Seed of the groups and the draws.
    progress
        Receives the progress.
    """
    if draws == 0:
        return dict.fromkeys(maps, MapIntervals())
    group = document_groups(text.documents, among=len(text.fold), number=GROUPS, seed=seed + 1)
    sums = {
        target: _GroupSums(measured, target, [each.to(text.model.device) for each in held_out])
        for target, held_out in maps.items()
    }
    hooks = list(dict.fromkeys([measured.source, *maps]))
    title = f"{text.model.name}: intervals of {counted(len(maps), 'map')}"
    total = int(measured.counts.count.sum())
    for rows in text.rows(hooks, title=title, total=total, progress=progress):
        for each in sums.values():
            each.add(rows, group[rows.document])
    return {t: limits(each.groups(), draws=draws, seed=seed) for t, each in sums.items()}


class _GroupSums:
    """Sums over groups of documents for one target."""

    def __init__(self, measured: MapMoments, target: str, maps: Sequence[ScoringMap]) -> None:
        self._measured, self._target = measured, target
        self._map = {f: each for each in maps for f in each.scored}
        # The mean over the tokens of each fit replaces the mean of ids that do not occur there.
        self._mean = {
            f: joined([measured.target(target, g) for g in each.on]).y.cpu()
            for f, each in self._map.items()
        }
        # Sums are of deviations from a vector near the mean, to keep precision.
        self._near = next(iter(self._mean.values()))
        self._scalars = torch.zeros(GROUPS, 4, dtype=torch.float64)
        self._sums = torch.zeros(GROUPS, len(self._near), dtype=torch.float64)

    def add(self, rows: StreamRows, group: NDArray[np.int64]) -> None:
        """Add the tokens of a batch; ``group`` has the group of each token."""
        for slot, where in rows.by_slot():
            fold = slot // 2
            if slot % 2 or fold not in self._map:
                continue
            y = rows.read[self._target]
            at = where.to(y.device)
            x, y = rows.read[self._measured.source][at].float(), y[at].float()
            error = self._map[fold].errors(x, y)
            deviation = y.cpu().double()
            token_error = self._token_errors(fold, rows.ids[where.numpy()], deviation)
            deviation -= self._near
            squares = deviation.square().sum(1)
            scalars = torch.stack([torch.ones_like(error), error, token_error, squares], 1)
            to = torch.from_numpy(group[where.numpy()])
            self._scalars.index_add_(0, to, scalars)
            self._sums.index_add_(0, to, deviation)

    def _token_errors(self, fold: int, ids: NDArray[np.int64], y: Tensor) -> Tensor:
        """Return the squared error of the token means on each token."""
        each, at = np.unique(ids, return_inverse=True)
        slots = [2 * g for g in self._map[fold].on]
        train = self._measured.tokens.of_ids(self._target, slots, each)
        means, _ = means_of(train, each, otherwise=self._mean[fold])
        return (means[torch.from_numpy(at)] - y).square().sum(1)

    def groups(self) -> Groups:
        """Return the sums over groups."""
        n, error, token_error, squares = self._scalars.T.numpy()
        return Groups(n, error, token_error, self._sums.numpy(), squares)
