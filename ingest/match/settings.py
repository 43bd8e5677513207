"""The settings of a match, frozen, and recorded in its part."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.settings import check_settings, documented, setting

__all__ = ["Alignment", "MatchSettings"]

Alignment: TypeAlias = Literal["auto", "tokens", "words"]


@documented
@dataclass(frozen=True)
class MatchSettings:
    """How two SAEs are matched."""

    best: int = setting(3, "Matches stored of each feature, in each direction.", least=1)
    min_joint: int = setting(
        10, "Tokens on which both features of a pair must be active: one shared token alone gives "
        "a correlation of 1.", least=1, metavar="N",
    )  # fmt: skip
    draws: int = setting(
        20, "Draws of each null; the lowest p is 1 / (1 + draws), and 0 means no null.", least=0
    )
    seed: int = setting(0, "Seed of the draws.", least=0)
    align: Alignment = setting(
        "auto", "Compare tokens or words; auto compares words where the tokenizers differ."
    )
    wordless: bool = setting(
        True, "Include features with a token without letter or digit among their five commonest."
    )
    min_shared: int = setting(
        0, "Tokens that the five commonest of both features must have in common.",
        least=0, most=5, metavar="N",
    )  # fmt: skip
    min_pearson: float = setting(0.0, "Lowest correlation of a match.", least=0, most=1)

    def __post_init__(self) -> None:
        check_settings(self)
