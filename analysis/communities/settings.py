"""How node statistics and communities of a co-activation graph are made."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from atlas.settings import check_settings, documented, setting

__all__ = ["WEIGHTS", "CommunitySettings", "Weight"]

Weight: TypeAlias = Literal["total", "weight", "count", "none"]

#: What the weight of an edge may be in community detection.
WEIGHTS: tuple[Weight, ...] = get_args(Weight)


@documented
@dataclass(frozen=True)
class CommunitySettings:
    """Settings of ``analysis.communities.study.graph_features``."""

    weight: Weight = setting(
        "total", "Weight of an edge in community detection: its mean cosine (weight), its number of "
        "tokens (count), their product (total), or 1 (none)."
    )  # fmt: skip
    min_count: int = setting(
        1, "Only edges of features that were together among the most active of N tokens.",
        least=1, metavar="N",
    )  # fmt: skip
    runs: int = setting(
        5, "Leiden runs with other seeds, to compare the communities with.", least=1, metavar="N"
    )
    splits: int = setting(
        3, "Splits of the documents into halves, to compare the communities with.",
        least=1, metavar="N",
    )  # fmt: skip
    draws: int = setting(
        5, "Random graphs for the expected number of partners.", least=2, metavar="N"
    )
    sources: int = setting(
        256, "Nodes from which betweenness is estimated in a large graph.", flag=None, least=2
    )
    tokens: int = setting(8, "Largest number of tokens that name a community.", flag=None, least=1)
    seed: int = setting(0, "Seed of everything drawn.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
