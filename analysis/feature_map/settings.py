"""Settings of maps of features."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["Layout", "MapSettings", "Space"]

Space: TypeAlias = Literal["decoder", "activation"]
Layout: TypeAlias = Literal["each", "joint"]


@documented
@dataclass(frozen=True)
class MapSettings:
    """Settings of ``analysis.feature_map.study.map_features``."""

    space: Space = setting(
        "decoder", "Vectors of the features: decoder directions, or activations over the text."
    )
    layout: Layout = setting(
        "each",
        "One map for each SAE, or one joint map for each pair of SAEs.",
    )
    neighbours: int = setting(
        15, "Number of nearest features, in UMAP and in the measures of quality.", least=2
    )
    min_dist: float = setting(
        0.1, "Smallest distance of points in UMAP.", least=0.0, most=1.0, metavar="DISTANCE"
    )
    repeats: int = setting(
        2, "Number of maps of other seeds, for the agreement over seeds.", least=0, paper=9
    )
    tokens: int = setting(
        100_000,
        "With --space activation: tokens of the activations, at most; a random sample of more.",
        least=1,
    )
    seed: int = setting(0, "Seed of the map and of all samples.", least=0, most=2**31 - 1)

    def __post_init__(self) -> None:
        check_settings(self)
