"""Settings of the comparison with floors."""

from dataclasses import dataclass

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["FloorSettings"]


@documented
@dataclass(frozen=True)
class FloorSettings:
    """Settings of ``compare_with_floors``."""

    level: float = setting(0.95, "Confidence level of the intervals over seeds.", above=0, below=1)

    def __post_init__(self) -> None:
        check_settings(self)
