"""How node statistics and communities of a co-activation graph are made."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from atlas.errors import BadInput

__all__ = ["WEIGHTS", "GraphSettings", "Weight"]

Weight: TypeAlias = Literal["total", "weight", "count", "none"]

#: What an edge may weigh where communities are sought.
WEIGHTS: tuple[Weight, ...] = get_args(Weight)


@dataclass(frozen=True)
class GraphSettings:
    """Settings of ``analysis.communities.study.graph_features``.

    Parameters
    ----------
    weight
        What an edge weighs where communities are sought: its property ``weight`` (a mean of
        cosines), its ``count`` (a number of tokens), their product ``"total"`` (the sum of the
        cosine over these tokens), or all the same (``"none"``).
    min_count
        Only edges of pairs met on so many tokens; never fewer than the atlas keeps.
    runs
        Leiden runs of other seeds that the communities are held against.
    splits
        Splits of the documents into halves that they are held against.
    draws
        Graphs drawn by the bipartite null for the expected number of partners.
    sources
        From how many nodes betweenness is estimated where the graph is large.
    tokens
        Tokens that name a community, at most.
    seed
        Of everything drawn.
    """

    weight: Weight = "total"
    min_count: int = 1
    runs: int = 5
    splits: int = 3
    draws: int = 5
    sources: int = 256
    tokens: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weight not in WEIGHTS:
            raise BadInput(f"An edge cannot weigh {self.weight!r}; choose of {', '.join(WEIGHTS)}.")
        least = {"min_count": 1, "runs": 1, "splits": 1, "draws": 2, "sources": 2, "tokens": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise BadInput(f"{name} must be {low} or more; {getattr(self, name)} was given.")
        if self.seed < 0:
            raise BadInput(f"A seed is 0 or more; {self.seed} was given.")
