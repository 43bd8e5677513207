"""How counterparts are looked for: the settings, and the grid they are chosen from on another pair."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, TypeAlias

from atlas.settings import check_settings, documented, setting

__all__ = ["ANCHORS", "GraphMatchingSettings", "Standard", "vector_grid", "walk_grid"]

Standard: TypeAlias = Literal["normal", "z"]

#: Shares of the truth that are given away as anchors.
ANCHORS = (0.01, 0.05, 0.1, 0.5)


@documented
@dataclass(frozen=True)
class GraphMatchingSettings:
    """How the features of one graph are looked up in another by structure."""

    standard: Standard = setting(
        "normal", "How statistics of nodes are made comparable within each graph: normal scores of "
        "their ranks, or z scores."
    )  # fmt: skip
    depth: int = setting(
        2, "How often statistics are averaged over neighbours, for the propagated vectors.", least=0
    )
    walks: int = setting(3, "Longest walk from a node to the anchors.", least=1)
    rounds: int = setting(
        6, "How often pairs found so far are added to the anchors; 0 for never.", least=0
    )
    prior: float = setting(
        0.25,
        "Weight of a node's propagated vector beside its walks, until the last round.",
        least=0,
    )
    doubt: float = setting(
        0.3, "Weight of a pair that was found, beside 1 for a known anchor.",
        flag=None, above=0, most=1,
    )  # fmt: skip
    most: int = setting(1000, "Largest number of pairs added to the anchors.", flag=None, least=1)

    def __post_init__(self) -> None:
        check_settings(self)


def vector_grid(base: GraphMatchingSettings) -> Iterator[GraphMatchingSettings]:
    """Yield the settings of vectors that are tried on another pair."""
    kinds: tuple[Standard, ...] = ("normal", "z")
    for standard, depth in product(kinds, (1, 2, 3)):
        yield replace(base, standard=standard, depth=depth)


def walk_grid(base: GraphMatchingSettings) -> Iterator[GraphMatchingSettings]:
    """Yield the settings of walks that are tried there, those of vectors held fixed."""
    for walks, prior in product((2, 3), (0.1, 0.25, 0.5)):
        yield replace(base, walks=walks, prior=prior)
