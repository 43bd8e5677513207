"""Settings of a match, recorded in its part."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["Alignment", "MatchSettings"]

Alignment: TypeAlias = Literal["auto", "tokens", "words"]


@documented
@dataclass(frozen=True)
class MatchSettings:
    """How two SAEs are matched."""

    best: int = setting(3, "Matches stored for each feature, in each direction.", least=1)
    min_joint: int = setting(
        10,
        "Tokens on which both features of a pair must be active. A single shared token would "
        "give a correlation of 1.",
        least=1,
        metavar="N",
    )
    draws: int = setting(
        20,
        "Draws of each null; the lowest p is 1 / (1 + draws), and 0 means no null.",
        least=0,
        paper=199,
    )
    seed: int = setting(0, "Seed of the draws.", least=0)
    align: Alignment = setting(
        "auto", "Compare tokens or words; auto compares words where the tokenizers differ."
    )
    wordless: bool = setting(
        True,
        "Include features that have a token without letters and digits among their five most "
        "frequent tokens.",
    )
    min_shared: int = setting(
        0,
        "Number of tokens that the five most frequent tokens of both features must share.",
        least=0,
        most=5,
        metavar="N",
    )
    min_pearson: float = setting(0.0, "Lowest correlation of a match.", least=0, most=1)

    def __post_init__(self) -> None:
        check_settings(self)
