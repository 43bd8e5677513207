"""Settings of synthetic models with known features."""

from dataclasses import dataclass

from atlas.errors import BadInput
from atlas.studies.settings import check_settings, documented, setting

__all__ = ["SyntheticSettings"]


@documented
@dataclass(frozen=True)
class SyntheticSettings:
    """Settings of ``save_synthetic``."""

    features: int = setting(256, "Number of true features.", least=2, most=1 << 14, metavar="N")
    width: int = setting(64, "Width of the activations.", least=2, most=1 << 14, metavar="N")
    max_rate: float = setting(
        0.2, "Share of tokens on which the most frequent feature is active.", above=0, most=1
    )
    min_rate: float = setting(
        0.01, "Share of tokens on which the least frequent feature is active.", above=0, below=1
    )
    exponent: float = setting(
        0.5, "Zipf exponent of the rates: the rate of feature n falls as 1 / n^exponent.", above=0
    )
    deviation: float = setting(
        0.25, "Standard deviation of a feature's activations around their mean of 1.", least=0
    )
    correlation: float = setting(
        0.2,
        "Share of a feature's Gaussian variable that common factors explain (Gaussian copula).",
        least=0,
        most=0.9,
    )
    factors: int = setting(8, "Number of common factors of the correlation.", least=1)
    trees: int = setting(
        16,
        "Number of trees of features: a child is active only where its parent is. 0 for none.",
        least=0,
    )
    children: int = setting(3, "Children of each parent.", least=2)
    depth: int = setting(1, "Generations below the root of a tree.", least=1, most=8)
    exclusive: float = setting(
        0.5, "Share of parents of whose children at most one is active.", least=0, most=1
    )
    cosine: float = setting(
        0.0, "Expected cosine between the directions of features of one tree.", least=0, below=1
    )
    seed: int = setting(0, "Seed of the features, their activations and the texts.", least=0)
    context: int = setting(
        64, "Tokens of a context, BOS included; a document is one context.", least=2, metavar="N"
    )
    vocabulary: int = setting(1000, "Number of words of the texts.", least=2, metavar="N")
    tokens: int = setting(100_000, "Tokens of the text for an atlas.", least=1, metavar="N")
    training_tokens: int = setting(
        1_000_000, "Tokens of the text for training.", least=1, metavar="N"
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.min_rate >= self.max_rate:
            raise BadInput(
                f"min_rate is {self.min_rate:g} and max_rate {self.max_rate:g}; expected a lower min_rate."
            )
        if (needed := self.trees * (1 + self.children)) > self.features:
            raise BadInput(
                f"{self.trees} trees of a parent and {self.children} children need {needed} features, and there are "
                f"{self.features}. Pass more features, or fewer trees or children."
            )
        if self.cosine and not self.trees:
            raise BadInput(
                "cosine is a property of trees, and trees is 0; expected at least one tree."
            )
