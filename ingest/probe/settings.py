"""Settings of a probe, recorded in its part."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.errors import BadInput
from atlas.studies.settings import check_settings, documented, setting

__all__ = ["ALL", "CLASSIFIERS", "PRESETS", "Balance", "Kind", "ProbeSettings", "Split"]

#: Names all sites: the embedding and the output of every block.
ALL = "all"

FINEST = 1e-6
"""Smallest tolerance of the gradient: the resolution of sums in float32."""

Split: TypeAlias = Literal["document", "sample", "type"]
Kind: TypeAlias = Literal["active", "random-features", "mlp", "activation"]
Balance: TypeAlias = Literal["weight", "subsample"]

#: The kinds of probes that predict whether a feature is active.
CLASSIFIERS: tuple[Kind, ...] = ("active", "random-features", "mlp")

#: The settings that only one kind of probe uses.
_OF_KIND: dict[str, Kind] = {"random_features": "random-features", "hidden": "mlp"}


@documented
@dataclass(frozen=True)
class ProbeSettings:
    """How features are probed.

    The loss has a second derivative of at least 2λ in every direction of w. Where the solver
    stops, w is therefore within ``tolerance * sqrt(width + 1) / 2`` of the optimum.
    """

    splits: tuple[Split, ...] = setting(
        ("document", "type"),
        "What is never on both sides of the split: a document, a token of the "
        "text (sample), or a token id (type). Each split is a run of its own.",
        flag="split",
    )
    kinds: tuple[Kind, ...] = setting(
        ("active",),
        "Predict whether a feature is active, with logistic regression (active), with logistic "
        "regression on random features (random-features) or with a network of one hidden layer "
        "(mlp); or predict its activation with ridge regression (activation).",
        flag="kind",
    )
    penalty: float = setting(1e-3, "λ of mean loss + λ‖w‖².", above=0, metavar="L2")
    c: float | None = setting(
        None,
        "C as in scikit-learn, instead of a penalty: λ = 1 / (2·C·n) for n training tokens.",
        above=0,
        metavar="C",
    )
    scale: bool = setting(
        True,
        "Divide all vectors of a site by their root mean square, so that a penalty means the "
        "same at any site.",
        flag=None,
    )
    train_share: float = setting(0.8, "Share of tokens to train on.", flag=None, above=0, below=1)
    threshold: float = setting(
        0.0,
        "Activation above which a feature counts as active.",
        flag="above",
        least=0,
        most=3e38,  # float32, as activations are
        metavar="A",
    )
    balance: Balance = setting(
        "weight",
        "Balance the classes by weight, or by sampling equal numbers of active and "
        "inactive tokens for each feature.",
    )
    min_positives: int = setting(
        10, "Active tokens that a feature needs on each side of the split.", least=1, metavar="N"
    )
    features: int | None = setting(
        None, "Number of features to probe, drawn at random.", least=1, metavar="N", shown="all"
    )
    tokens: int | None = setting(
        None,
        "Number of tokens to use, from the start of the text.",
        least=1,
        metavar="N",
        shown="all",
    )
    controls: int = setting(5, "Draws of the control task.", least=0, metavar="N", paper=20)
    draws: int = setting(200, "Bootstrap draws of documents.", least=0, metavar="N", paper=999)
    tau: float = setting(0.85, "Balanced accuracy that a verdict requires.", least=0.5, most=1)
    delta: float = setting(
        0.02, "Largest difference from the token table for the verdict linear.", least=0, most=1
    )
    seed: int = setting(0, "Seed of splits, draws and samples.", least=0)
    iterations: int = setting(500, "Largest number of steps of the solver.", least=1)
    tolerance: float = setting(
        1e-3,
        "The solver ends where no component of the gradient exceeds this share of λ (never "
        f"below {FINEST:g}, the resolution of float32).",
        above=0,
        metavar="SHARE",
    )

    random_features: int = setting(
        512, "With --kind random-features: number of random features.", least=1, metavar="N"
    )
    hidden: int = setting(8, "With --kind mlp: hidden units of each network.", least=1, metavar="N")

    @staticmethod
    def unused(kind: Kind) -> tuple[str, ...]:
        """Return the names of the settings that a kind of probe does not use."""
        return tuple(name for name, of in _OF_KIND.items() if of != kind)

    def gradient_tolerance(self, penalty: float) -> float:
        """Return the largest component of the gradient at which the solver stops.

        Parameters
        ----------
        penalty
            λ; the smallest one in the block of features.
        """
        return max(self.tolerance * penalty, FINEST)

    def draws_from_all(self, split: str) -> bool:
        """Return whether each feature has its own split, as in the dataset-geometry study.

        All tokens that were not sampled for training are then used for validation.
        """
        return self.balance == "subsample" and split == "sample"

    def __post_init__(self) -> None:
        check_settings(self)
        if self.c is not None and "activation" in self.kinds:
            raise BadInput(
                "c is scikit-learn's C of a logistic regression; for the kind 'activation' set "
                "penalty instead."
            )


PRESETS: dict[str, ProbeSettings] = {
    # The dataset-geometry study: scikit-learn's LogisticRegression(C=10) with 2,000 iterations,
    # trained on equal numbers of active and inactive tokens, validated on the remaining tokens.
    "mats": ProbeSettings(
        splits=("sample",),
        c=10.0,
        scale=False,
        threshold=0.1,
        balance="subsample",
        features=100,
        tokens=10_240,
        iterations=2000,
    ),
}
"""Settings by name."""
