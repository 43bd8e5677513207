"""A second look at the text: errors of the maps by document, for intervals of their R²."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atlas.progress import Progress
from ingest.transcoder.maps import Fitted
from ingest.transcoder.reading import Counts, Rows, Text, deal
from ingest.transcoder.scores import Groups, limits

__all__ = ["intervals"]

#: Groups that documents are dealt into: as good as single ones, and their sums stay small.
GROUPS = 512


def intervals(
    text: Text,
    source: str,
    maps: Mapping[str, Sequence[Fitted]],
    *,
    counts: Counts,
    draws: int,
    seed: int,
    progress: Progress,
) -> dict[str, tuple[float | None, float | None]]:
    """Return the 95% interval of each target's variance-weighted R², BOS left out.

    Documents, or groups of them where there are more than 512, are drawn anew; the maps
    stay as they are, and each token is told by the map that is scored on its fold.

    Parameters
    ----------
    text
        The text.
    source
        The source.
    maps
        By target: maps, and the folds each is scored on.
    counts
        The text's tokens.
    draws
        Draws of the bootstrap; with 0 nothing is read.
    seed
        Seed of the groups and the draws.
    progress
        Told how far it is.
    """
    if draws == 0:
        return dict.fromkeys(maps, (None, None))
    group = deal(text.documents, among=len(text.fold), number=GROUPS, seed=seed + 1)
    sums = {target: _Sums(those, text.model.device) for target, those in maps.items()}
    hooks = list(dict.fromkeys([source, *maps]))
    title = f"{text.model.name}: intervals of {len(maps)} map(s)"
    total = int(counts.count.sum())
    for rows in text.rows(hooks, title=title, total=total, progress=progress):
        for target, each in sums.items():
            each.add(rows, group[rows.document], source=source, target=target)
    return {t: limits(each.groups(), draws=draws, seed=seed) for t, each in sums.items()}


class _Sums:
    """Sums over groups of documents for one target."""

    def __init__(self, maps: Sequence[Fitted], device: torch.device) -> None:
        self._lines = {
            f: (m.line.weight.to(device, torch.float32), m.line.bias.to(device, torch.float32))
            for m in maps
            for f in m.scored
        }
        width = len(maps[0].line.bias)
        # Sums are of what is left of a vector near the mean, whose size would cost digits.
        self._near: Tensor | None = None
        self._scalars = torch.zeros(GROUPS, 3, dtype=torch.float64)
        self._sums = torch.zeros(GROUPS, width, dtype=torch.float64)

    def add(self, rows: Rows, group: NDArray[np.int64], *, source: str, target: str) -> None:
        """Add the tokens of a batch; ``group`` says for each of which group it is."""
        for slot, where in rows.by_slot():
            if slot % 2 or slot // 2 not in self._lines:
                continue
            weight, bias = self._lines[slot // 2]
            at = where.to(weight.device)
            x, y = (rows.read[hook][at].float() for hook in (source, target))
            error = (x @ weight + bias - y).square().sum(1).cpu().double()
            if self._near is None:
                self._near = y.mean(0)
            left = (y - self._near).cpu().double()
            scalars = torch.stack([torch.ones_like(error), error, left.square().sum(1)], 1)
            to = torch.from_numpy(group[where.numpy()])
            self._scalars.index_add_(0, to, scalars)
            self._sums.index_add_(0, to, left)

    def groups(self) -> Groups:
        """Return the sums."""
        n, error, squares = self._scalars.T.numpy()
        return Groups(n, error, self._sums.numpy(), squares)
