"""A second look at the text: errors of maps and token means by document, for intervals of their R²."""

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

#: Groups that documents are dealt into: as good as single ones, and their sums stay small.
GROUPS = 512


@dataclass(frozen=True, eq=False)
class Held:
    """A map in float32, as ``Line.single`` gives it, and the folds it was fitted and is scored on."""

    weight: Tensor
    x: Tensor
    y: Tensor
    on: tuple[int, ...]
    scored: tuple[int, ...]

    @classmethod
    def of(cls, fitted: Fitted) -> "Held":
        """Return what is needed of a map."""
        return cls(*fitted.line.single(), fitted.on, fitted.scored)

    def to(self, device: torch.device) -> "Held":
        """Return it on a device."""
        weight, x, y = (t.to(device) for t in (self.weight, self.x, self.y))
        return replace(self, weight=weight, x=x, y=y)

    def errors(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the squared error on each of some tokens; float64, (tokens,)."""
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
    """Return the 95% intervals of each target's variance-weighted R², BOS left out.

    Documents, or groups of them where there are more than 512, are drawn anew; maps and
    token means stay as they are, and each token is told by those that are scored on its fold.

    Parameters
    ----------
    text
        The text.
    measured
        What was summed up at the first look.
    maps
        By target: its maps.
    draws
        Draws of the bootstrap; with 0 nothing is read.
    seed
        Seed of the groups and the draws.
    progress
        Told how far it is.
    """
    if draws == 0:
        return dict.fromkeys(maps, Limits())
    group = deal(text.documents, among=len(text.fold), number=GROUPS, seed=seed + 1)
    sums = {
        target: _Sums(measured, target, [each.to(text.model.device) for each in those])
        for target, those in maps.items()
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
        # Of the tokens that each map was fitted on: the mean, for ids that do not occur there.
        self._mean = {
            f: joined([measured.target(target, g) for g in each.on]).y.cpu()
            for f, each in self._map.items()
        }
        # Sums are of what is left of a vector near the mean, whose size would cost digits.
        self._near = next(iter(self._mean.values()))
        self._scalars = torch.zeros(GROUPS, 4, dtype=torch.float64)
        self._sums = torch.zeros(GROUPS, len(self._near), dtype=torch.float64)

    def add(self, rows: Rows, group: NDArray[np.int64]) -> None:
        """Add the tokens of a batch; ``group`` says for each of which group it is."""
        for slot, where in rows.by_slot():
            fold = slot // 2
            if slot % 2 or fold not in self._map:
                continue
            y = rows.read[self._target]
            at = where.to(y.device)
            x, y = rows.read[self._measured.source][at].float(), y[at].float()
            error = self._map[fold].errors(x, y)
            left = y.cpu().double()
            token_error = self._token_errors(fold, rows.ids[where.numpy()], left)
            left -= self._near
            squares = left.square().sum(1)
            scalars = torch.stack([torch.ones_like(error), error, token_error, squares], 1)
            to = torch.from_numpy(group[where.numpy()])
            self._scalars.index_add_(0, to, scalars)
            self._sums.index_add_(0, to, left)

    def _token_errors(self, fold: int, ids: NDArray[np.int64], y: Tensor) -> Tensor:
        """Return the squared error of the token means on each of some tokens."""
        each, at = np.unique(ids, return_inverse=True)
        slots = [2 * g for g in self._map[fold].on]
        train = self._measured.tokens.of_ids(self._target, slots, each)
        means, _ = means_of(train, each, otherwise=self._mean[fold])
        return (means[torch.from_numpy(at)] - y).square().sum(1)

    def groups(self) -> Groups:
        """Return the sums."""
        n, error, token_error, squares = self._scalars.T.numpy()
        return Groups(n, error, token_error, self._sums.numpy(), squares)
