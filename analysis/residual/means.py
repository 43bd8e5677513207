"""Means of the target by token id, with the shrinkage that best predicts held-out documents."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from analysis.residual.activations import ActivationRows
from analysis.residual.settings import SHRINKAGES

__all__ = ["Prior", "Sums", "TokenTable"]

#: Prior mean of the target for token ids, as a function of the source's vectors.
Prior: TypeAlias = Callable[[Tensor], Tensor]

#: Token ids in a block, which limits the memory for copies of their sums.
CHUNK = 4096


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Shrunk means by token id.

    Parameters
    ----------
    ids
        int64, (ids,), ascending.
    off
        float64, (ids, target). Deviation of each shrunk mean from its prior.
    shrunk
        Weight of the prior in each mean, in tokens. None if all tokens are in one half of the
        documents, so that it could not be chosen; the weight is then 1.
    """

    ids: Tensor
    off: Tensor
    shrunk: float | None


class Sums:
    """Sums of the target by token id and half of the documents; each new id adds a row."""

    def __init__(self) -> None:
        self._row: dict[int, int] = {}
        self._sums = torch.zeros(0, 2, 0, dtype=torch.float64)
        self._counts = torch.zeros(0, 2, dtype=torch.float64)
        self._sources = torch.zeros(0, 0)

    def add(self, rows: ActivationRows, halves: Tensor) -> None:
        """Add tokens; ``halves``, int64 (tokens,), are 0 or 1."""
        each, at = torch.unique(rows.ids, return_inverse=True)
        to = torch.tensor([self._row.setdefault(i, len(self._row)) for i in each.tolist()])
        self._grow(rows.source.shape[1], rows.target.shape[1])
        where = 2 * to[at] + halves
        self._sums.view(-1, self._sums.shape[2]).index_add_(0, where, rows.target.double())
        self._counts.view(-1).index_add_(0, where, torch.ones(len(at), dtype=torch.float64))
        one = torch.zeros(len(each), dtype=torch.int64).scatter_(0, at, torch.arange(len(at)))
        self._sources[to] = rows.source[one]

    def _grow(self, source: int, target: int) -> None:
        """Enlarge the sums to 1.5 times the number of ids."""
        if len(self._row) > len(self._counts):
            more = len(self._row) + len(self._row) // 2 - len(self._counts)
            shapes = {"_sums": (2, target), "_counts": (2,), "_sources": (source,)}
            for name, shape in shapes.items():
                old: Tensor = getattr(self, name)
                rows = old if len(old) else old.new_zeros(0, *shape)
                setattr(self, name, torch.cat([rows, old.new_zeros(more, *shape)]))

    def table(self, prior: Prior, *, halves: tuple[Prior, Prior]) -> TokenTable:
        """Return the means of the ids, shrunk towards a prior.

        Parameters
        ----------
        prior
            Computes (ids, target), or (target,) for all ids, from the source's vectors of ids,
            (ids, source), float64. Each vector is that of one token, so it is only valid if the
            source is a function of the token id.
        halves
            The same prior, fitted on each half of the documents alone. A prior that was fitted
            on the other half would underestimate its error on new text.
        """
        ids = torch.tensor(sorted(self._row))
        shrunk = self._shrinkage(halves)
        mixed = 1.0 if shrunk is None else shrunk
        off = [
            residual.sum(1) / (counts.sum(1, keepdim=True) + mixed)
            for residual, counts in self._residuals(prior)
        ]
        return TokenTable(ids, torch.cat(off), shrunk)

    def _residuals(self, prior: Prior) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield sums of residuals of the prior, (ids, halves, target), and counts, (ids, halves)."""
        rows = torch.tensor([self._row[i] for i in sorted(self._row)])
        for some in torch.split(rows, CHUNK):
            counts = self._counts[some]
            mean = prior(self._sources[some].double()).reshape(-1, 1, self._sums.shape[2])
            yield self._sums[some] - counts[:, :, None] * mean, counts

    def _shrinkage(self, halves: tuple[Prior, Prior]) -> float | None:
        """Choose the weight of the prior in each mean, in tokens, from ``SHRINKAGES``.

        The weight minimizes the error of one half's shrunk means on the other half, summed over
        both directions.
        """
        if not self._counts.sum(0).all():
            return None
        shrinkages = torch.tensor(SHRINKAGES, dtype=torch.float64)
        error = torch.zeros_like(shrinkages)
        for one, other in ((0, 1), (1, 0)):
            for residual, counts in self._residuals(halves[one]):
                n = counts[:, one]
                off = residual[:, one] / n.clamp(min=1)[:, None]
                against = (residual[:, other] * off).sum(1)
                square = counts[:, other] * (off**2).sum(1)
                weights = n / (n + shrinkages[:, None]).clamp(min=1e-9)  # (shrinkages, ids)
                error += weights**2 @ square - 2 * weights @ against
        return float(shrinkages[error.argmin()])
