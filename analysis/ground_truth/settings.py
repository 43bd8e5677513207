"""Settings of the study of ground truth."""

from dataclasses import dataclass

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["GroundTruthSettings"]


@documented
@dataclass(frozen=True)
class GroundTruthSettings:
    """Settings of ``compare_with_truth``."""

    truth: str = setting(
        "truth", "Name of the SAE whose codes are the true features.", metavar="SAE"
    )
    cosine: float = setting(
        0.9,
        "A true feature is recovered if the cosine with its partner exceeds this.",
        above=0,
        below=1,
    )
    candidates: int = setting(
        10,
        "Nearest features of each feature, in both directions, that can be its partner.",
        least=1,
    )
    min_count: int = setting(5, "Lowest count of a co-activation edge.", least=1)
    lift: float = setting(
        2.0, "Lowest ratio of the count of an edge to its expected count.", above=0
    )
    implication: float = setting(
        0.9,
        "A feature is a parent of another if it is active on at least this share of its tokens.",
        above=0,
        most=1,
    )
    draws: int = setting(5, "Draws of random directions, for the chance level.", least=1, paper=99)
    seed: int = setting(0, "Seed of the draws.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
