"""Settings of node statistics and community detection."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["WEIGHTS", "CommunitySettings", "Weight"]

Weight: TypeAlias = Literal["total", "weight", "count", "none"]

#: Kinds of edge weights in community detection.
WEIGHTS: tuple[Weight, ...] = get_args(Weight)


@documented
@dataclass(frozen=True)
class CommunitySettings:
    """Settings of ``analysis.communities.study.graph_features``."""

    weight: Weight = setting(
        "total",
        "Weight of an edge in community detection: its mean cosine (weight), its number of "
        "tokens (count), their product (total), or 1 (none).",
    )
    min_count: int = setting(
        1,
        "Only pairs of features that are among the most active together on N or more tokens.",
        least=1,
        metavar="N",
    )
    runs: int = setting(
        5,
        "Number of Leiden runs with other seeds, for the stability of communities.",
        least=1,
        metavar="N",
    )
    splits: int = setting(
        3,
        "Number of splits of the documents into halves, for the stability of communities.",
        least=1,
        metavar="N",
        paper=10,
    )
    draws: int = setting(
        5,
        "Number of null graphs, for modularity and for the expected number of partners.",
        least=2,
        metavar="N",
        paper=20,
    )
    sources: int = setting(
        256,
        "Number of source nodes for the betweenness estimate in a large graph.",
        flag=None,
        least=2,
    )
    tokens: int = setting(
        8, "Largest number of characteristic tokens of a community.", flag=None, least=1
    )
    seed: int = setting(0, "Seed of all random draws.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
