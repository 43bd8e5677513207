"""The maps between two sites: those that are scored on what they have not seen, and the one that is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from analysis.transcoder.accumulate import Measured
from analysis.transcoder.moments import joined
from analysis.transcoder.solve import Line, Spectra, choose, fit

__all__ = ["Fitted", "Maps", "closed_form"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A map, the folds it was fitted on, and the fold it is scored on."""

    line: Line
    on: tuple[int, ...]
    scored: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Maps:
    """All maps between two sites.

    Parameters
    ----------
    held_out
        Maps that are scored on folds they were not fitted on, each fold once at most.
    whole
        The map that is kept, scored on what it was fitted on.
    bos_held_out, bos_whole
        The same with BOS among the tokens; empty and None where there is no BOS.
    penalty
        λ of ``whole``, as it is added to the source's covariance; None for Adam.
    steps, rate
        Steps of Adam, and its learning rate; None for the closed form.
    rank
        Of the source on the tokens that ``whole`` was fitted on.
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
    """Fit the maps of least squared error plus penalty.

    With BOS the penalties are those chosen without.

    Parameters
    ----------
    measured
        Moments of the folds.
    target
        The target.
    penalties
        To choose from, in units of the mean variance of the source's dimensions. Where the
        tokens leave directions of the source open, 0 is taken only if it is the only one.
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
        of = measured.both if bos else measured.text
        own = [of(target, f) for f in every] if bos else moments

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


def _but(folds: tuple[int, ...], left: int) -> tuple[int, ...]:
    return tuple(f for f in folds if f != left)
