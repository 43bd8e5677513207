"""Maps between two sites: those scored on held-out folds, and the stored map."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from analysis.transcoder.accumulate import Measured
from analysis.transcoder.moments import joined
from analysis.transcoder.solve import Line, Spectra, choose, fit

__all__ = ["Fitted", "Maps", "closed_form"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A map, the folds of its fit, and the folds of its score."""

    line: Line
    on: tuple[int, ...]
    scored: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Maps:
    """All maps between two sites.

    Parameters
    ----------
    held_out
        Maps scored on held-out folds, each fold at most once.
    whole
        The stored map, scored in sample.
    bos_held_out, bos_whole
        The same with BOS among the tokens; empty and None without BOS.
    penalty
        λ of ``whole``, which is added to the source's covariance; None for Adam.
    steps, rate
        Steps and learning rate of Adam; None for the closed form.
    rank
        Rank of the source on the tokens of the fit of ``whole``.
    """

    held_out: tuple[Fitted, ...]
    whole: Fitted
    bos_held_out: tuple[Fitted, ...]
    bos_whole: Fitted | None
    penalty: float | None
    steps: int | None
    rank: int
    rate: float | None = None


def closed_form(
    measured: Measured,
    target: str,
    *,
    penalties: Sequence[float],
    text: Spectra,
    both: Spectra,
) -> Maps:
    """Fit maps by ridge regression in closed form.

    The maps with BOS use the penalties that are chosen without BOS.

    Parameters
    ----------
    measured
        Moments of the folds.
    target
        The target.
    penalties
        Penalties to choose from, in units of the mean variance of the source's dimensions. If
        the source has rank below its width, 0 is used only if it is the only one.
    text, both
        Spectra of the source, without and with BOS.
    """
    every = tuple(range(measured.folds))
    if measured.source == target:
        return _same(measured, target, text.of(every).rank)
    moments = [measured.text(target, f) for f in every]
    if any(text.of(_but(every, f)).rank < len(moments[0].x) for f in every):
        penalties = [p for p in penalties if p] or penalties
    nested, last = choose(moments, text, penalties)

    def fitted(spectra: Spectra, bos: bool) -> tuple[tuple[Fitted, ...], Fitted]:
        moments_of = measured.both if bos else measured.text
        own = [moments_of(target, f) for f in every] if bos else moments

        def one(on: tuple[int, ...], penalty: float, scored: tuple[int, ...]) -> Fitted:
            return Fitted(fit(joined([own[f] for f in on]), spectra.of(on), penalty), on, scored)

        held = tuple(one(_but(every, f), nested[f], (f,)) for f in every)
        return held, one(every, last, every)

    held, whole = fitted(text, bos=False)
    n = sum(m.n for m in moments)
    bos_held, bos_whole = fitted(both, bos=True) if measured.has_bos else ((), None)
    return Maps(
        held, whole, bos_held, bos_whole, last * text.of(every).unit / n, None, text.of(every).rank
    )


def _same(measured: Measured, target: str, rank: int) -> Maps:
    every = tuple(range(measured.folds))
    zero = torch.zeros_like(measured.text(target, 0).y)
    line = Line(torch.diag(zero + 1), zero, zero, same=True)
    held = tuple(Fitted(line, _but(every, f), (f,)) for f in every)
    whole = Fitted(line, every, every)
    if measured.has_bos:
        return Maps(held, whole, held, whole, 0.0, None, rank)
    return Maps(held, whole, (), None, 0.0, None, rank)


def _but(folds: tuple[int, ...], excluded: int) -> tuple[int, ...]:
    return tuple(f for f in folds if f != excluded)
