"""Settings of the study of interpretability."""

from dataclasses import dataclass

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["InterpretabilitySettings"]


@documented
@dataclass(frozen=True)
class InterpretabilitySettings:
    """Settings of ``measure_interpretability``."""

    examples: int = setting(
        50, "Tokens of highest activation, and of middle activation, of each feature.", least=1
    )
    words: int = setting(
        10,
        "Token ids of a description, at most: the most frequent ones of the top examples.",
        least=1,
    )
    min_active: int = setting(
        20,
        "Active tokens that a feature needs on each half of the documents.",
        least=1,
        metavar="N",
    )
    seed: int = setting(0, "Seed of the halves of documents and of the middle examples.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
