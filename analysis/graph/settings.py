"""How the statistics of co-activation graphs are computed."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.settings import check_settings, documented, setting

__all__ = ["GraphStatisticsSettings", "Nulls"]

Nulls: TypeAlias = Literal["none", "bipartite", "documents", "configuration", "all"]


@documented
@dataclass(frozen=True)
class GraphStatisticsSettings:
    """Settings of ``analysis.graph.study.graph_statistics``."""

    nulls: Nulls | None = setting(
        None, "Null graphs to compare with: features swapped between tokens (bipartite), the same within "
        "documents (documents), or edges swapped (configuration).",
        shown="all; without codes, configuration",
    )  # fmt: skip
    draws: int = setting(10, "Graphs drawn from each null.", least=1, metavar="N")
    min_count: int = setting(
        1, "Only edges of features that were together among the most active of N tokens.",
        least=1, metavar="N",
    )  # fmt: skip
    tokens: int | None = setting(
        None, "The graphs over the first N tokens.",
        least=1, metavar="N", shown="all; of SAEs that differ, the fewest",
    )  # fmt: skip
    curves: bool = setting(
        False, "Also compute edges, isolates and clustering over 1/16 to all tokens."
    )
    seed: int = setting(0, "Seed of everything drawn.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
