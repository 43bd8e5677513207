"""Settings of the study of effects."""

from dataclasses import dataclass

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["EffectSettings"]


@documented
@dataclass(frozen=True)
class EffectSettings:
    """Settings of ``measure_effects``."""

    contexts: int = setting(
        192,
        "Contexts of the sample, each from another document where there are enough.",
        least=2,
        paper=400,
    )
    context_size: int = setting(
        32, "Most tokens of a context, BOS included.", least=4, metavar="TOKENS"
    )
    occurrences: int = setting(
        24,
        "Most tokens at which each feature is ablated, one at a time.",
        least=2,
        metavar="N",
        paper=30,
    )
    min_occurrences: int = setting(
        5, "Fewest tokens of a feature that is measured.", least=2, metavar="N"
    )
    features: int | None = setting(
        None, "Size of a random sample of features that is measured.", least=1, shown="all live"
    )
    directions: int = setting(
        500,
        "Least number of random directions of all features together; the lowest p of an edge is 1 / (1 + their "
        "number).",
        least=19,
        metavar="N",
    )
    decoys: int = setting(
        3,
        "Least number of random directions of each feature. effect_q of n features that exceed their d random "
        "directions is at least 1 / (n * d).",
        least=1,
        paper=9,
        metavar="N",
    )
    candidates: int = setting(
        40, "Targets of each feature that can become edges: the largest attributions.", least=1
    )
    strongest: int = setting(10, "Most edges of a feature that are stored.", least=1, metavar="N")
    q: float = setting(0.05, "Largest q-value of an edge.", above=0, below=1)
    joint: int = setting(
        32, "Tokens at which all active features are ablated together.", least=2, metavar="N"
    )
    seed: int = setting(0, "Seed of the sample and of the draws.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
