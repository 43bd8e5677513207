"""Settings of a comparison of graphs."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from analysis.communities.settings import Weight
from atlas.settings import check_settings, documented, setting

__all__ = ["Chosen", "ComparisonSettings"]

Chosen: TypeAlias = Literal["both-nulls", "one-to-one", "mutual"]


@documented
@dataclass(frozen=True)
class ComparisonSettings:
    """How two graphs are compared."""

    draws: int = setting(
        200, "Permutations of the matches, rewired graphs, and bootstrap draws, each; the lowest p is "
        "1 / (1 + draws).", least=1,
    )  # fmt: skip
    seed: int = setting(0, "Seed of everything drawn.", least=0)
    min_count: int = setting(
        1, "Only edges of features that were together among the most active of N tokens.",
        least=1, metavar="N",
    )  # fmt: skip
    matches: Chosen = setting(
        "both-nulls", "Which matches make partners: one-to-one ones with q of at most 0.05 in both nulls, "
        "any one-to-one ones, or mutual ones."
    )  # fmt: skip
    level: float = setting(
        0.05, "Largest q of a match, for both-nulls.", flag=None, least=0, most=1
    )
    halves: int = setting(5, "Random divisions of the documents into halves.", least=1)
    null_graphs: int = setting(
        3, "Graphs drawn by the bipartite null for distances of distributions.", flag=None, least=1
    )
    frequency_bins: int = setting(
        4, "Matches are permuted within quantiles of frequency.", flag=None, least=1
    )
    degree_bins: int = setting(
        10, "Matches are permuted within quantiles of degree in each bin of frequency.",
        flag=None, least=1,
    )  # fmt: skip
    r_bins: int = setting(
        5, "Equal bins, from 0 to 1, of the lower Pearson correlation of the matches at the two ends "
        "of an edge.", flag=None, least=1,
    )  # fmt: skip
    bars: int = setting(
        30, "Bins of the Jensen-Shannon distances, in addition to one for 0.", flag=None, least=1
    )
    weight: Weight = setting(
        "total", "Weight of an edge in community detection: its mean cosine (weight), its number of "
        "tokens (count), their product (total), or 1 (none)."
    )  # fmt: skip
    leiden_runs: int = setting(
        3, "Leiden runs on each graph, each with its own seed.", flag=None, least=1
    )

    def __post_init__(self) -> None:
        check_settings(self)
