"""Accumulate the moments of a source and its targets in float64, for least squares.

Memory does not grow with the number of tokens. Moments are centred and joined by Chan's
formula, which keeps the precision of a small spread about a large mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

__all__ = ["Moments", "Stream", "joined"]

#: Smallest number of rows in a product; fewer rows are collected first, for speed.
FEW = 64

#: Columns in a strip of the source's products, of which only the upper triangle is computed.
STRIP = 512


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of a source and one target, all float64.

    Parameters
    ----------
    n
        Tokens.
    x, y
        (source,) and (target,). Means.
    xx, xy
        (source, source) and (source, target). Sums of products of deviations from the means.
    yy
        (target,). Sums of squared deviations from the mean.
    """

    n: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> "Moments":
        """Return the moments of rows (n, source) and (n, target)."""
        stream = Stream(x.shape[1], {"": y.shape[1]}, device=x.device)
        stream.add(x, {"": y})
        return stream.moments("")

    def join(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of tokens together (Chan et al.)."""
        n = self.n + other.n
        share = other.n / n if n else 0.0
        x, y = other.x - self.x, other.y - self.y
        weight = self.n * share
        return Moments(
            n,
            self.x + share * x,
            self.y + share * y,
            self.xx + other.xx + torch.outer(weight * x, x),
            self.xy + other.xy + torch.outer(weight * x, y),
            self.yy + other.yy + weight * y**2,
        )

    def about(self, x: Tensor, y: Tensor) -> "Moments":
        """Return the sums of products about the points ``x`` and ``y`` instead of the means."""
        dx, dy = self.x - x, self.y - y
        return Moments(
            self.n,
            x,
            y,
            self.xx + torch.outer(self.n * dx, dx),
            self.xy + torch.outer(self.n * dx, dy),
            self.yy + self.n * dy**2,
        )


def joined(parts: Sequence[Moments]) -> Moments:
    """Return the moments of several sets of tokens together."""
    return reduce(Moments.join, parts)


class Stream:
    """Moments of a source and any number of targets, to which rows are added.

    Parameters
    ----------
    source
        Width of the source; 0 if its moments are computed elsewhere.
    targets
        Width of each target, by name.
    device
        Device of the moments; it must support float64.
    """

    def __init__(
        self, source: int, targets: Mapping[str, int], *, device: torch.device | str = "cpu"
    ) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=device)

        self.n = 0
        self._x, self._xx = zeros(source), zeros(source, source)
        self._y = {name: zeros(width) for name, width in targets.items()}
        self._yy = {name: zeros(width) for name, width in targets.items()}
        self._xy = {name: zeros(source, width) for name, width in targets.items()}
        self._device = device
        self._few: list[tuple[Tensor, dict[str, Tensor]]] = []

    @staticmethod
    def bytes_needed(source: int, targets: Sequence[int]) -> int:
        """Return the bytes of a stream."""
        width = sum(targets)
        return 8 * (source * (source + width) + 2 * width) + 4 * FEW * (source + width)

    def add(self, x: Tensor, ys: Mapping[str, Tensor]) -> None:
        """Add rows: (n, source), and (n, width) of each target."""
        if len(x) >= FEW:
            self._add(x, ys)
        elif len(x):
            self._few.append((x, dict(ys)))
            if sum(len(rows) for rows, _ in self._few) >= FEW:
                self._flush()

    def join(self, other: "Stream") -> "Stream":
        """Return the moments of both sets of rows together."""
        both = Stream(len(self._x), {k: len(v) for k, v in self._y.items()}, device=self._device)
        for name in self._y:
            own = self.moments(name).join(other.moments(name))
            both._y[name], both._xy[name], both._yy[name] = own.y, own.xy, own.yy
            both.n, both._x, both._xx = own.n, own.x, own.xx
        return both

    def moments(self, target: str) -> Moments:
        """Return the moments of the source and one target as views, which change with added rows."""
        self._flush()
        self._mirror()
        return Moments(
            self.n, self._x, self._y[target], self._xx, self._xy[target], self._yy[target]
        )

    def target(self, name: str) -> Moments:
        """Return the moments of a target, without the source."""
        self._flush()
        none = self._x[:0]
        return Moments(
            self.n, none, self._y[name], self._xx[:0, :0], self._xy[name][:0], self._yy[name]
        )

    def _mirror(self) -> None:
        """Fill the lower triangle of the source's products, in place."""
        for begin in range(0, len(self._x), STRIP):
            end = begin + STRIP
            upper = torch.triu(self._xx[begin:end, begin:end])
            self._xx[begin:end, begin:end] = upper + torch.triu(upper, 1).T
            self._xx[begin:end, :begin] = self._xx[:begin, begin:end].T

    def _flush(self) -> None:
        if self._few:
            rows, targets = zip(*self._few, strict=True)
            self._few = []
            self._add(torch.cat(rows), {k: torch.cat([t[k] for t in targets]) for k in self._y})

    def _add(self, x: Tensor, ys: Mapping[str, Tensor]) -> None:
        number = len(x)
        share = number / (self.n + number)
        weight = (self.n * share) ** 0.5
        zx = self._deviations(x, self._x, share=share, weight=weight)
        for begin in range(0, len(self._x), STRIP):
            end = begin + STRIP
            self._xx[:end, begin:end].addmm_(zx[:, :end].T, zx[:, begin:end])
        for name, mean in self._y.items():
            zy = self._deviations(ys[name], mean, share=share, weight=weight)
            self._xy[name].addmm_(zx.T, zy)
            self._yy[name] += (zy * zy).sum(0)
        self.n += number

    def _deviations(self, x: Tensor, mean: Tensor, *, share: float, weight: float) -> Tensor:
        """Return rows minus their mean, with an extra row for the join, and update the mean in place.

        The products of the extra row are the terms of Chan's formula, so a join needs no extra
        pass.
        """
        z = torch.empty(len(x) + 1, x.shape[1], dtype=torch.float64, device=self._device)
        z[:-1] = x
        own = z[:-1].mean(0)
        z[:-1] -= own
        own -= mean
        z[-1] = weight * own
        mean += share * own
        return z
