"""The settings of a probe, frozen, and recorded in its part."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.errors import BadInput

__all__ = ["Balance", "Kind", "ProbeSettings", "Split"]

FINEST = 1e-6
"""Smallest tolerance of the gradient: sums in float32 are not known more finely."""

Split: TypeAlias = Literal["document", "sample", "type"]
Kind: TypeAlias = Literal["active", "activation"]
Balance: TypeAlias = Literal["weight", "subsample"]


@dataclass(frozen=True)
class ProbeSettings:
    """How features are probed.

    Parameters
    ----------
    splits
        How tokens are divided into training and validation; one run for each.
        ``"document"``: whole documents. ``"sample"``: single tokens, so that a document
        may be on both sides. ``"type"``: token ids, so that no id is on both sides.
    kinds
        ``"active"``: is the feature active (logistic regression). ``"activation"``: how
        much (ridge regression).
    penalty
        λ of mean loss + λ‖w‖².
    c
        scikit-learn's C in its place: λ = 1 / (2·C·n), n being the tokens that a feature's
        probe is trained on.
    scale
        Divide all vectors of a site by one number, their root mean square over rows and
        dimensions, so that a penalty means the same at any site.
    train_share
        Share of tokens to train on.
    threshold
        Activation above which a feature counts as active.
    balance
        ``"weight"``: both classes weigh the same. ``"subsample"``: as many inactive tokens
        as active ones are drawn for each feature.
    min_positives
        Active tokens that a feature needs on each side.
    features
        How many features are probed, drawn by ``seed``; all if None.
    tokens
        Only the first so many tokens of the text; all if None.
    controls
        Draws of the control task.
    draws
        Draws of the bootstrap.
    tau
        Balanced accuracy that a verdict asks for.
    delta
        How near the token table is near enough for the verdict ``linear``.
    seed
        Seed of splits, draws and samples.
    iterations
        Steps of the solver at most.
    tolerance
        The solver ends where no component of the gradient is larger than this times λ (but
        not below ``FINEST``, which float32 resolves). The loss bends by 2λ at least in every
        direction of w, so w is then within ``tolerance * sqrt(width + 1) / 2`` of the optimum.
    """

    splits: tuple[Split, ...] = ("document", "type")
    kinds: tuple[Kind, ...] = ("active",)
    penalty: float = 1e-3
    c: float | None = None
    scale: bool = True
    train_share: float = 0.8
    threshold: float = 0.0
    balance: Balance = "weight"
    min_positives: int = 10
    features: int | None = None
    tokens: int | None = None
    controls: int = 5
    draws: int = 200
    tau: float = 0.85
    delta: float = 0.02
    seed: int = 0
    iterations: int = 500
    tolerance: float = 1e-3

    def gradient_tolerance(self, penalty: float) -> float:
        """Return the largest component of the gradient at which the solver ends.

        Parameters
        ----------
        penalty
            λ; the smallest of those that are solved together.
        """
        return max(self.tolerance * penalty, FINEST)

    def draws_from_all(self, split: str) -> bool:
        """Say whether a split's two sides are drawn for each feature by itself, as the source did.

        Whatever was not drawn for training is then validated on.
        """
        return self.balance == "subsample" and split == "sample"

    def __post_init__(self) -> None:
        for name, least in (("controls", 0), ("draws", 0), ("seed", 0), ("threshold", 0.0)):
            if not getattr(self, name) >= least:
                raise BadInput(
                    f"{name}={getattr(self, name)} was asked for; {least} or more is possible."
                )
        for name in ("min_positives", "features", "tokens", "iterations"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise BadInput(
                    f"{name}={getattr(self, name)} was asked for; 1 or more is possible."
                )
        if not 0 < self.train_share < 1:
            raise BadInput(
                f"train_share={self.train_share} was asked for; it lies between 0 and 1, both excluded."
            )
        if not 0.5 <= self.tau <= 1 or not 0 <= self.delta <= 1:
            raise BadInput(
                f"tau={self.tau} and delta={self.delta} were asked for; tau lies between 0.5 (chance) and 1, "
                "delta between 0 and 1."
            )
        if not self.threshold < float("inf"):
            raise BadInput(f"threshold={self.threshold} was asked for; it is a finite number.")
        if self.c is not None and "activation" in self.kinds:
            raise BadInput(
                "c is scikit-learn's C of a logistic regression; of the kind 'activation' say penalty instead."
            )
        for name in ("penalty", "tolerance", "c"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise BadInput(f"{name}={value} was asked for; it is a number above 0.")
        if not self.splits or not self.kinds:
            raise BadInput("A probe needs one split and one kind at least.")
