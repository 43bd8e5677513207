"""Settings of the study of token positions."""

from dataclasses import dataclass

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["PositionSettings"]


@documented
@dataclass(frozen=True)
class PositionSettings:
    """Settings of ``activation_by_position``."""

    draws: int = setting(
        200,
        "Random orders of the tokens of each document; the lowest p is 1 / (1 + draws).",
        least=1,
        paper=999,
    )
    seed: int = setting(0, "Seed of the random orders.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
