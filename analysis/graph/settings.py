"""Settings of the statistics of co-activation graphs."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["GraphStatisticsSettings", "Nulls"]

Nulls: TypeAlias = Literal["none", "bipartite", "documents", "configuration", "all"]


@documented
@dataclass(frozen=True)
class GraphStatisticsSettings:
    """Settings of ``analysis.graph.study.graph_statistics``."""

    nulls: Nulls | None = setting(
        None,
        "Null graphs to compare with: features swapped between tokens (bipartite), features swapped "
        "within documents (documents), or edges swapped (configuration).",
        shown="all; without codes, configuration",
    )
    draws: int = setting(
        10, "Number of graphs drawn from each null.", least=1, metavar="N", paper=99
    )
    min_count: int = setting(
        1,
        "Only pairs of features that are among the most active together on N or more tokens.",
        least=1,
        metavar="N",
    )
    tokens: int | None = setting(
        None,
        "Use only the first N tokens.",
        least=1,
        metavar="N",
        shown="all; of SAEs that differ, the fewest",
    )
    curves: bool = setting(
        False, "Also compute edges, isolates and clustering over 1/16 to all tokens."
    )
    seed: int = setting(0, "Seed of all random draws.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
