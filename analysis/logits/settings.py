"""Settings of the study of logits."""

from dataclasses import dataclass

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["LogitSettings"]


@documented
@dataclass(frozen=True)
class LogitSettings:
    """Settings of ``measure_logits``."""

    top: int = setting(
        10, "Tokens with the highest and the lowest direct logits that are stored.", least=1
    )
    features: int = setting(
        256,
        "Live features that are ablated, at most: a random sample. 0 ablates none and needs no codes.",
        least=0,
    )
    positions: int = setting(
        16, "Tokens on which a feature is ablated, at most: a random sample.", least=1
    )
    seed: int = setting(0, "Seed of both samples.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
