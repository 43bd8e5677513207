"""The settings of a transcoder, frozen, and recorded in its part."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.errors import BadInput

__all__ = ["Method", "TranscoderSettings"]

Method: TypeAlias = Literal["closed form", "adam"]


@dataclass(frozen=True)
class TranscoderSettings:
    """How affine maps are fitted and scored.

    Parameters
    ----------
    method
        ``"closed form"``: ridge regression from moments. ``"adam"``: gradient descent,
        as the source did.
    folds
        Into how many folds documents are dealt. With the closed form each fold is scored
        by a map that was fitted on the others. With Adam the first is scored, the second
        says when to stop, and the rest is trained on.
    penalties
        Of the closed form, what is added to the diagonal of the source's covariance, in
        units of the mean variance of its dimensions. Of several the one with the least
        error on documents left out is taken; for a held-out score these documents are
        others than the scored ones.
    seed
        Seed of the folds, of the draws, and of training.
    draws
        Draws of the bootstrap over documents; 0: no interval, and one look at the text less.
    rates
        Of Adam, learning rates to try, the source's (1e-4) among them; the one with the
        least error on the second fold, on which no map is trained or scored, is taken.
    batch
        Tokens of a step of Adam.
    epochs
        Looks of Adam at all its tokens, at most.
    patience
        Adam stops after so many epochs without a lower error on the second fold.
    """

    method: Method = "closed form"
    folds: int = 5
    penalties: tuple[float, ...] = (0.0, *(10.0**i for i in range(-8, 2)))
    seed: int = 0
    draws: int = 1000
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3)
    batch: int = 256
    epochs: int = 20
    patience: int = 3

    def __post_init__(self) -> None:
        for name, least in (
            ("seed", 0),
            ("draws", 0),
            ("batch", 1),
            ("epochs", 1),
            ("patience", 1),
        ):
            if getattr(self, name) < least:
                raise BadInput(
                    f"{name}={getattr(self, name)} was asked for; {least} or more is possible."
                )
        few = 3 if self.method == "adam" or len(self.penalties) > 1 else 2
        if self.folds < few:
            raise BadInput(
                f"{self.folds} fold(s) were asked for; {few} or more are needed: some to fit on, one to "
                f"score{' and one to choose by' if few == 3 else ''}."
            )
        if self.method not in ("closed form", "adam"):
            raise BadInput(f"The method {self.method!r} is unknown; say 'closed form' or 'adam'.")
        if not self.penalties or not all(0 <= p < float("inf") for p in self.penalties):
            raise BadInput(f"penalties={self.penalties} was asked for; each is a number from 0 on.")
        if not self.rates or not all(0 < r < float("inf") for r in self.rates):
            raise BadInput(f"rates={self.rates} was asked for; each is a number above 0.")
