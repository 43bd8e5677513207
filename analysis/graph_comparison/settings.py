"""Settings of graph comparisons."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from analysis.communities.settings import Weight
from atlas.studies.settings import check_settings, documented, setting

__all__ = ["Chosen", "ComparisonSettings"]

Chosen: TypeAlias = Literal["both-nulls", "one-to-one", "mutual"]


@documented
@dataclass(frozen=True)
class ComparisonSettings:
    """Settings of ``analysis.graph_comparison.study.compare_graphs``."""

    draws: int = setting(
        200,
        "Number of permutations, of rewired graphs and of bootstrap draws; the smallest p is "
        "1 / (1 + draws).",
        least=1,
        paper=999,
    )
    seed: int = setting(0, "Seed of all random draws.", least=0)
    min_count: int = setting(
        1,
        "Only pairs of features that are among the most active together on N or more tokens.",
        least=1,
        metavar="N",
    )
    matches: Chosen = setting(
        "both-nulls",
        "Matches to use: one-to-one with q of at most 0.05 under shifted documents and under the shuffle of "
        "each token, all one-to-one, or mutual.",
    )
    level: float = setting(
        0.05, "Largest q of a match, for both-nulls.", flag=None, least=0, most=1
    )
    halves: int = setting(5, "Number of random splits of the documents into halves.", least=1)
    null_graphs: int = setting(
        3, "Number of bipartite null graphs for distances of distributions.", flag=None, least=1
    )
    frequency_bins: int = setting(
        4, "Number of frequency quantiles within which matches are permuted.", flag=None, least=1
    )
    degree_bins: int = setting(
        10,
        "Number of degree quantiles, in each quantile of frequency, within which matches are permuted.",
        flag=None,
        least=1,
    )
    r_bins: int = setting(
        5,
        "Number of equal bins from 0 to 1 of r, the lower match correlation at the two ends of an "
        "edge.",
        flag=None,
        least=1,
    )
    bars: int = setting(
        30,
        "Number of bins of the Jensen-Shannon distances, in addition to one for 0.",
        flag=None,
        least=1,
    )
    weight: Weight = setting(
        "total",
        "Weight of an edge in communities, strength and the rank correlation of weights: its mean "
        "cosine (weight), its number of tokens (count), their product (total), or 1 (none).",
    )
    leiden_runs: int = setting(
        3, "Number of Leiden runs on each graph, with different seeds.", flag=None, least=1
    )

    def __post_init__(self) -> None:
        check_settings(self)
