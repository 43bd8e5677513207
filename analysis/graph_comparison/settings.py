"""How two graphs are compared: the settings, frozen."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from analysis.communities.settings import WEIGHTS, Weight
from atlas.errors import BadInput

__all__ = ["AlikeSettings", "Chosen"]

Chosen: TypeAlias = Literal["both-nulls", "one-to-one", "mutual"]


@dataclass(frozen=True)
class AlikeSettings:
    """How two graphs are compared.

    Parameters
    ----------
    draws
        Permutations of the matches, graphs with edges swapped, and bootstrap draws, each.
    seed
        Of everything drawn.
    min_count
        Only edges of features that were together among the most active of so many tokens.
    matches
        Which matches are partners: one-to-one ones with q <= ``level`` in both nulls, any
        one-to-one ones, or mutual ones.
    level
        The q that matches must clear, for ``"both-nulls"``.
    halves
        How often the documents are divided at random into two halves.
    null_graphs
        Graphs drawn by the bipartite null for distances of distributions, of all tokens and of
        halves.
    frequency_bins, degree_bins
        Matches are permuted within strata: quantiles of frequency, and within each of these
        quantiles of degree.
    r_bins
        Edges are also told by the lower Pearson correlation of their ends' matches, in so
        many equal bins from 0 to 1.
    bars
        Bins of the Jensen-Shannon distances, besides one for 0.
    weight
        What an edge weighs for Leiden's method, strength and the rank correlation: its
        property ``weight`` (a mean of cosines), its ``count`` (a number of tokens), their
        product ``"total"``, or all the same (``"none"``).
    leiden_runs
        Runs of Leiden's method on each graph, each of its own seed.

    Raises
    ------
    BadInput
        If a number is too small or a word unknown.
    """

    draws: int = 200
    seed: int = 0
    min_count: int = 1
    matches: Chosen = "both-nulls"
    level: float = 0.05
    halves: int = 5
    null_graphs: int = 3
    frequency_bins: int = 4
    degree_bins: int = 10
    r_bins: int = 5
    bars: int = 30
    weight: Weight = "total"
    leiden_runs: int = 3

    def __post_init__(self) -> None:
        for name in (
            "draws", "min_count", "halves", "null_graphs", "frequency_bins", "degree_bins",
            "r_bins", "bars", "leiden_runs",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise BadInput(
                    f"{name}={getattr(self, name)} was asked for; 1 or more is possible."
                )
        if self.seed < 0:
            raise BadInput(f"seed={self.seed} was asked for; 0 or more is possible.")
        if not 0 <= self.level <= 1:
            raise BadInput(f"level={self.level} was asked for; 0 to 1 is possible.")
        for name, words in (("matches", get_args(Chosen)), ("weight", WEIGHTS)):
            if getattr(self, name) not in words:
                raise BadInput(
                    f"{name}={getattr(self, name)!r} was asked for; there are {', '.join(words)}."
                )
