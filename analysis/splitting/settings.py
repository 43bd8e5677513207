"""Settings of the study of feature splitting."""

from dataclasses import dataclass

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["SplittingSettings"]


@documented
@dataclass(frozen=True)
class SplittingSettings:
    """Settings of ``find_splits``."""

    candidates: int = setting(
        3,
        "Parents tested for each feature of the wider SAE: the nearest by decoder cosine.",
        least=1,
        metavar="N",
    )
    min_joint: int = setting(
        10,
        "Tokens on which a feature must be active to be tested, and on which both features of an "
        "edge must be active.",
        least=1,
        metavar="N",
    )
    inside: float = setting(
        0.5,
        "Lowest share of the child's tokens on which the parent of an edge is active.",
        least=0,
        most=1,
    )
    same: float = setting(
        0.7,
        "Lowest value of P(parent | child) and P(child | parent) of the same feature in both SAEs.",
        least=0,
        most=1,
    )
    cover: float = setting(
        0.5,
        "Lowest share of its tokens that the children of a split parent cover together.",
        above=0,
        most=1,
    )
    absorbed: float = setting(
        0.05,
        "Lowest share of its tokens on which other children replace the main child of an absorbed "
        "parent.",
        above=0,
        most=1,
    )
    q: float = setting(0.05, "Largest q-value of an edge.", above=0, below=1)
    draws: int = setting(20, "Draws of each null.", least=3, paper=199)
    seed: int = setting(0, "Seed of the draws.", least=0)
    baseline: str | None = setting(
        None,
        "SAE of the width of NARROW, whose table of classes is the baseline.",
        metavar="SAE",
        shown="another SAE of its width, site and architecture",
    )

    def __post_init__(self) -> None:
        check_settings(self)
