"""Second pass over the text: errors of maps and token means by document, for intervals of R²."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.transcoder.accumulate import Measured
from analysis.transcoder.activation_stream import Rows, Text, deal
from analysis.transcoder.fold_maps import Fitted
from analysis.transcoder.moments import joined
from analysis.transcoder.scores import Groups, Limits, limits, means_of
from atlas.progress import Progress

__all__ = ["GROUPS", "Held", "intervals"]

#: Number of document groups in the bootstrap, which limits the memory for sums.
GROUPS = 512


@dataclass(frozen=True, eq=False)
class Held:
    """A map in float32, from ``Line.single``, with the folds of its fit and of its score."""

    weight: Tensor
    x: Tensor
    y: Tensor
    on: tuple[int, ...]
    scored: tuple[int, ...]

    @classmethod
    def of(cls, fitted: Fitted) -> "Held":
        """Convert a fitted map."""
        return cls(*fitted.line.single(), fitted.on, fitted.scored)

    def to(self, device: torch.device) -> "Held":
        """Return the map on a device."""
        weight, x, y = (t.to(device) for t in (self.weight, self.x, self.y))
        return replace(self, weight=weight, x=x, y=y)

    def errors(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the squared error on each token; float64, (tokens,)."""
        return ((x - self.x) @ self.weight + self.y - y).square().sum(1).cpu().double()


def intervals(
    text: Text,
    measured: Measured,
    maps: Mapping[str, Sequence[Held]],
    *,
    draws: int,
    seed: int,
    progress: Progress,
) -> dict[str, Limits]:
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
        return dict.fromkeys(maps, Limits())
    group = deal(text.documents, among=len(text.fold), number=GROUPS, seed=seed + 1)
    sums = {
        target: _Sums(measured, target, [each.to(text.model.device) for each in held])
        for target, held in maps.items()
    }
    hooks = list(dict.fromkeys([measured.source, *maps]))
    title = f"{text.model.name}: intervals of {len(maps)} map(s)"
    total = int(measured.counts.count.sum())
    for rows in text.rows(hooks, title=title, total=total, progress=progress):
        for each in sums.values():
            each.add(rows, group[rows.document])
    return {t: limits(each.groups(), draws=draws, seed=seed) for t, each in sums.items()}


class _Sums:
    """Sums over groups of documents for one target."""

    def __init__(self, measured: Measured, target: str, maps: Sequence[Held]) -> None:
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

    def add(self, rows: Rows, group: NDArray[np.int64]) -> None:
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
