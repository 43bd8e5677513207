"""Settings of the study of state changes."""

from dataclasses import dataclass
from typing import Literal

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["StateSettings"]


@documented
@dataclass(frozen=True)
class StateSettings:
    """Settings of ``compare_states``."""

    edit: Literal["ablate", "scale", "clamp", "add"] = setting(
        "ablate",
        "Edit of the features: set to 0, multiply by --times, set to --times the maximum activation, or "
        "add that along the decoder vector.",
    )
    times: float = setting(
        1.0, "Factor of scale, or strength of clamp and add in multiples of the maximum activation."
    )
    tokens: int = setting(
        8192,
        "Tokens of text. For ablate and scale, in contexts in which an edited feature is active. The last "
        "batch is read completely.",
        least=16,
    )
    search: int = setting(
        131_072,
        "Most tokens of text that are searched for these contexts; 0 takes random contexts instead.",
        least=0,
    )
    draws: int = setting(
        9, "Edits along random directions of equal norm, which are the control.", least=1, paper=99
    )
    layout: Literal["umap", "pca", "none"] = setting(
        "pca", "Map of the features, fitted once to the state before the edit.", flag="map"
    )
    neighbours: int = setting(
        10, "Nearest features of which the overlap before and after is measured.", least=1
    )
    seed: int = setting(0, "Seed of the text, of the random directions and of the map.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
