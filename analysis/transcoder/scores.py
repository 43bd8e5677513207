"""How well maps predict: R² and errors from moments, what token ids alone predict, and intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.transcoder.accumulate import Measured
from analysis.transcoder.fold_maps import Fitted, Maps
from analysis.transcoder.moments import Moments, joined
from analysis.transcoder.solve import squared_error
from analysis.transcoder.token_means import Tokens

__all__ = ["Groups", "Limits", "Scored", "limits", "means_of", "scores", "token_scores", "varies"]


@dataclass(frozen=True, eq=False)
class Scored:
    """Errors of maps over some tokens.

    Parameters
    ----------
    n
        Tokens.
    error
        float64, (target,). Sum of squared errors.
    total
        float64, (target,). Sum of squared deviations from the mean of these tokens.
    mean
        float64, (target,). That mean.
    """

    n: int
    error: Tensor
    total: Tensor
    mean: Tensor

    @property
    def r2(self) -> float | None:
        """Mean over dimensions that vary; None if none does."""
        there = varies(self.n, self.mean, self.total)
        return float((1 - self.error[there] / self.total[there]).mean()) if there.any() else None

    @property
    def weighted(self) -> float | None:
        """Both sums taken over all dimensions; None if none varies."""
        return _share(self.error, self.total) if self.constant < len(self.total) else None

    @property
    def published(self) -> float | None:
        """Deviations taken from one mean of all dimensions."""
        total = self.total.sum() + self.n * ((self.mean - self.mean.mean()) ** 2).sum()
        return 1 - float(self.error.sum() / total) if float(total) > 0 else None

    @property
    def mse(self) -> float:
        """Mean squared error per token and dimension."""
        return float(self.error.sum()) / (self.n * len(self.error))

    @property
    def constant(self) -> int:
        """Dimensions that do not vary."""
        return int((~varies(self.n, self.mean, self.total)).sum())


def varies(n: int, mean: Tensor, total: Tensor) -> Tensor:
    """Say of which dimensions the spread is more than float32's rounding of the mean; (target,)."""
    return total > n * (torch.finfo(torch.float32).eps * mean) ** 2


def _score(maps: Sequence[Fitted], moments: Callable[[int], Moments]) -> Scored:
    """Score maps on their folds, all tokens together."""
    folds = [(each.line, moments(f)) for each in maps for f in each.scored]
    error = torch.stack([squared_error(line, m) for line, m in folds]).sum(0)
    whole = joined([_target(m) for _, m in folds])
    return Scored(whole.n, error, whole.yy, whole.y)


def scores(
    measured: Measured, target: str, maps: Maps
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Return the properties of an edge MAPS_TO that scores make, and scores by dimension.

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
        Properties by name; what needs BOS is None where there is none.
    dict
        float64, (target,) each: ``variance``, ``mse``, ``r2`` and ``r2_in_sample``, NaN
        where a dimension does not vary.
    """

    def text(f: int) -> Moments:
        return measured.text(target, f)

    held, seen = _score(maps.held_out, text), _score([maps.whole], text)
    number = measured.counts.by_slot[::2]
    said: dict[str, object] = {
        "tokens": int(number.sum()),
        "fit_tokens": round(np.mean([number[list(m.on)].sum() for m in maps.held_out])),
        "folds": sum(len(m.scored) for m in maps.held_out),
        "r2": held.r2, "r2_weighted": held.weighted, "mse": held.mse,
        "r2_in_sample": seen.r2, "r2_in_sample_weighted": seen.weighted, "mse_in_sample": seen.mse,
        "variance": float(seen.total.sum()) / (seen.n * len(seen.total)),
        "constant_dimensions": seen.constant, "penalty": maps.penalty, "steps": maps.steps,
        "rank": maps.rank, "rate": maps.rate,
    }  # fmt: skip
    said |= token_scores(measured, target, maps) | _with_bos(measured, target, maps)
    if (token := said["token_r2_weighted"]) is not None and held.weighted is not None:
        assert isinstance(token, float)
        said["token_difference"] = held.weighted - token
    if maps.bos_whole is None:
        said["r2_published"] = seen.published
    there = varies(seen.n, seen.mean, seen.total) & varies(held.n, held.mean, held.total)
    nan = torch.full_like(seen.total, torch.nan)
    by_dimension = {
        "variance": seen.total / seen.n,
        "mse": held.error / held.n,
        "r2": torch.where(there, 1 - held.error / held.total, nan),
        "r2_in_sample": torch.where(there, 1 - seen.error / seen.total, nan),
    }
    return said, by_dimension


def _with_bos(measured: Measured, target: str, maps: Maps) -> dict[str, object]:
    if maps.bos_whole is None:
        names = ("r2_with_bos", "r2_with_bos_weighted", "mse_with_bos", "bos_share")
        return dict.fromkeys(names)
    held = _score(maps.bos_held_out, lambda f: measured.both(target, f))
    seen = _score([maps.bos_whole], lambda f: measured.both(target, f))
    alone = _score([maps.bos_whole], lambda f: measured.bos(target, f))
    error = float(seen.error.sum())
    return {
        "r2_with_bos": held.r2, "r2_with_bos_weighted": held.weighted, "mse_with_bos": held.mse,
        "r2_published": seen.published,
        "bos_share": float(alone.error.sum()) / error if error else None,
    }  # fmt: skip


def token_scores(measured: Measured, target: str, maps: Maps) -> dict[str, object]:
    """Return what the means of each token id predict, on the tokens that the maps are scored on."""
    folds, errors, known = [], [], 0.0
    for each in maps.held_out:
        mean = joined([measured.target(target, f) for f in each.on]).y.cpu()
        for f in each.scored:
            spread = measured.target(target, f)
            error, centre = spread.yy.cpu().clone(), spread.y.cpu()
            for train, side in measured.sides(target, each.on, [f]):
                told, seen = means_of(train, side.ids, otherwise=mean)
                known += float(side.count[torch.from_numpy(seen)].sum())
                told -= centre
                sums = side.sums - side.count[:, None] * centre
                error += (told * (side.count[:, None] * told - 2 * sums)).sum(0)
            folds.append(spread)
            errors.append(error)
    whole = joined(folds)
    held = Scored(whole.n, torch.stack(errors).sum(0), whole.yy.cpu(), whole.y.cpu())
    return {
        "token_r2": held.r2, "token_r2_weighted": held.weighted, "seen_share": known / held.n,
    } | _eta2(measured, target, maps.whole.on)  # fmt: skip


def means_of(
    train: Tokens, ids: NDArray[np.int64], *, otherwise: Tensor
) -> tuple[Tensor, NDArray[np.bool_]]:
    """Return the mean of each id on some tokens, and which ids occur there.

    Parameters
    ----------
    train
        The tokens.
    ids
        The ids.
    otherwise
        (target,). The mean of all, for an id that does not occur.

    Returns
    -------
    float64 (ids, target), and bool (ids,).
    """
    at, seen = train.find(ids)
    means = otherwise.repeat(len(ids), 1)
    there = torch.from_numpy(at[seen])
    means[torch.from_numpy(seen)] = train.sums[there] / train.count[there, None]
    return means, seen


def _eta2(measured: Measured, target: str, folds: Sequence[int]) -> dict[str, object]:
    whole = joined([measured.target(target, f) for f in folds])
    mean, total = whole.y.cpu(), float(whole.yy.sum())
    between, ids = 0.0, 0
    for (side,) in measured.sides(target, folds):
        centred = side.sums - side.count[:, None] * mean
        between += float((centred**2 / side.count[:, None]).sum())
        ids += len(side.ids)
    if total <= 0:
        return {"token_eta2_weighted": None, "token_omega2_weighted": None}
    # Where each id occurs once, nothing tells noise from ids.
    within = (total - between) / (whole.n - ids) if whole.n > ids else None
    omega = None if within is None else (between - (ids - 1) * within) / (total + within)
    return {"token_eta2_weighted": between / total, "token_omega2_weighted": omega}


@dataclass(frozen=True, eq=False)
class Groups:
    """Sums over groups of documents, for draws of documents.

    Parameters
    ----------
    n
        float64, (groups,). Tokens.
    error, token_error
        float64, (groups,). Squared errors of the map and of the token means, all dimensions
        summed.
    sums
        float64, (groups, target). Sums of the target, less any one vector.
    squares
        float64, (groups,). Squares of the same, all dimensions summed.
    """

    n: NDArray[np.float64]
    error: NDArray[np.float64]
    token_error: NDArray[np.float64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]


#: Lower and upper limit of an interval; None where none could be drawn.
Interval: TypeAlias = tuple[float | None, float | None]


@dataclass(frozen=True)
class Limits:
    """95% intervals of variance-weighted R², documents drawn anew, the same for all three.

    Parameters
    ----------
    map, token
        Of the map, and of the token means.
    difference
        Of the map's less that of the token means.
    """

    map: Interval = (None, None)
    token: Interval = (None, None)
    difference: Interval = (None, None)


def limits(groups: Groups, *, draws: int, seed: int) -> Limits:
    """Return the intervals, groups of documents drawn anew.

    Parameters
    ----------
    groups
        Sums over the groups.
    draws
        How often groups are drawn, as many as there are, with replacement.
    seed
        Seed of the draws.

    Returns
    -------
    All None without draws, and where there are fewer than two groups.
    """
    there = groups.n > 0
    number = int(there.sum())
    if draws == 0 or number < 2:
        return Limits()
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(number, np.full(number, 1 / number), size=draws).astype(np.float64)
    n, error, token_error, squares = (
        weights @ a[there] for a in (groups.n, groups.error, groups.token_error, groups.squares)
    )
    total = squares - ((weights @ groups.sums[there]) ** 2).sum(1) / n
    some = total > 0
    if not some.any():
        return Limits()

    def between(share: NDArray[np.float64]) -> Interval:
        low, high = np.quantile(share[some] / total[some], [0.025, 0.975])
        return float(low), float(high)

    return Limits(
        between(total - error), between(total - token_error), between(token_error - error)
    )


def _share(error: Tensor, total: Tensor) -> float:
    return 1 - float(error.sum() / total.sum())


def _target(m: Moments) -> Moments:
    """Return the moments of the target alone."""
    return Moments(m.n, m.x[:0], m.y, m.xx[:0, :0], m.xy[:0], m.yy)
