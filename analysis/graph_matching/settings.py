"""How counterparts are looked for: the settings, and the grid they are chosen from on another pair."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, TypeAlias

from atlas.errors import BadInput

__all__ = ["ANCHORS", "CounterpartSettings", "Standard", "vector_grid", "walk_grid"]

Standard: TypeAlias = Literal["normal", "z"]

#: Shares of the truth that are given away as anchors.
ANCHORS = (0.01, 0.05, 0.1, 0.5)


@dataclass(frozen=True)
class CounterpartSettings:
    """How counterparts are looked for.

    Parameters
    ----------
    standard
        How statistics of nodes are made comparable within each graph: ``"normal"`` takes
        normal scores of their ranks, ``"z"`` their distance from the mean in deviations.
    depth
        How often statistics are averaged over neighbours, for the propagated vectors.
    walks
        Longest walk from a node to the anchors.
    rounds
        How often pairs found so far are taken in as anchors; 0 for never.
    prior
        What a node's propagated vector counts beside its walks, until the last round.
    doubt
        What a pair that was found counts, beside 1 for a known anchor.
    most
        Pairs taken in at most.
    """

    standard: Standard = "normal"
    depth: int = 2
    walks: int = 3
    rounds: int = 6
    prior: float = 0.25
    doubt: float = 0.3
    most: int = 1000

    def __post_init__(self) -> None:
        for name, least in (("depth", 0), ("walks", 1), ("rounds", 0), ("prior", 0), ("most", 1)):
            if getattr(self, name) < least:
                raise BadInput(
                    f"{name}={getattr(self, name)} was asked for; {least} or more is possible."
                )
        if not 0 < self.doubt <= 1:
            raise BadInput(f"doubt={self.doubt} was asked for; above 0 and up to 1 is possible.")


def vector_grid(base: CounterpartSettings) -> Iterator[CounterpartSettings]:
    """Yield the settings of vectors that are tried on another pair."""
    kinds: tuple[Standard, ...] = ("normal", "z")
    for standard, depth in product(kinds, (1, 2, 3)):
        yield replace(base, standard=standard, depth=depth)


def walk_grid(base: CounterpartSettings) -> Iterator[CounterpartSettings]:
    """Yield the settings of walks that are tried there, those of vectors held fixed."""
    for walks, prior in product((2, 3), (0.1, 0.25, 0.5)):
        yield replace(base, walks=walks, prior=prior)
