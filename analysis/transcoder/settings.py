"""Settings of affine maps, frozen, and stored in their parts."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.errors import BadInput
from atlas.studies.settings import check_settings, documented, setting

__all__ = ["Method", "TranscoderSettings"]

Method: TypeAlias = Literal["closed form", "adam"]


@documented
@dataclass(frozen=True)
class TranscoderSettings:
    """Settings of the fit and the scores of affine maps.

    With the closed form, each fold is scored with a map that is fitted on the others. With
    Adam, the first fold is for scores, the second selects rate and epoch, and the others are
    for training.
    """

    method: Method = setting(
        "closed form",
        "Ridge regression from moments, or gradient descent as in the original study.",
    )
    folds: int = setting(5, "Number of folds of documents.", least=2, metavar="N")
    penalties: tuple[float, ...] = setting(
        (0.0, *(10.0**i for i in range(-8, 2))),
        "With --method closed-form: added to the diagonal of the source's covariance, in units of the "
        "mean variance of its dimensions. Of several, the one with the least error on documents that are "
        "neither fitted nor scored.",
        flag="penalty",
        least=0,
        metavar="L2",
        shown="0 and 1e-08 to 10",
    )
    seed: int = setting(0, "Seed of folds, draws and training.", least=0)
    draws: int = setting(
        1000,
        "Bootstrap draws of documents; 0 means no interval, and saves one run of the model.",
        least=0,
        metavar="N",
    )
    rates: tuple[float, ...] = setting(
        (1e-4, 3e-4, 1e-3, 3e-3),
        "With --method adam: learning rate. Of several, the one with the least error on the second fold.",
        flag="rate",
        above=0,
        metavar="R",
    )
    batch: int = setting(256, "With --method adam: tokens of a step.", least=1, metavar="N")
    epochs: int = setting(20, "With --method adam: largest number of epochs.", least=1, metavar="N")
    patience: int = setting(
        3,
        "With --method adam: training stops after this number of epochs without a lower error on the "
        "second fold.",
        least=1,
        metavar="N",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        few = 3 if self.method == "adam" or len(self.penalties) > 1 else 2
        if self.folds < few:
            raise BadInput(
                f"folds is {self.folds}; expected {few} or more, for the fit, for the score"
                f"{' and for the selection' if few == 3 else ''}."
            )
