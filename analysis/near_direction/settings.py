"""Settings of nearest directions."""

from dataclasses import dataclass

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["DirectionSettings"]


@documented
@dataclass(frozen=True)
class DirectionSettings:
    """Settings of ``analysis.near_direction.study.nearest_directions``."""

    neighbours: int = setting(10, "Number of nearest directions of each feature.", least=1)
    across: bool = setting(True, "Also compare SAEs with each other, where they share a space.")
    draws: int = setting(
        20,
        "Number of sets of random rows of matched covariance, for p; 0 for none.",
        least=0,
        paper=199,
    )
    seed: int = setting(0, "Seed of the random rows.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
