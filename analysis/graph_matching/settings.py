"""Settings of a graph matching, and the grid from which they are chosen on another pair."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal, TypeAlias

from atlas.errors import BadInput
from atlas.settings import check_settings, documented, setting

__all__ = ["ANCHORS", "GraphMatchingSettings", "Standard", "vector_grid", "walk_grid"]

Standard: TypeAlias = Literal["normal", "z"]

_METHOD = ("standard", "depth", "walks", "rounds", "prior", "doubt", "most")

#: Shares of the truth that are known, by default.
ANCHORS = (0.01, 0.05, 0.1, 0.5)


@documented
@dataclass(frozen=True)
class GraphMatchingSettings:
    """How the features of one graph are matched to those of another by structure."""

    anchors: tuple[float, ...] = setting(
        ANCHORS, "Share of the true counterparts that is known; 0 for none.",
        flag="anchor", least=0, below=1, metavar="SHARE",
    )  # fmt: skip
    repeats: int = setting(
        5, "Number of times that documents are split and anchors drawn again.", least=1
    )
    chosen_on: str | None = setting(
        None, "Choose settings on this other pair of SAEs, by mean reciprocal rank over a small grid.",
        metavar="C+D", shown="nothing is chosen",
    )  # fmt: skip

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
        "Weight of a node's propagated vector relative to its walks, until the last round.",
        least=0,
    )
    doubt: float = setting(
        0.3, "Weight of a pair that was found; a known anchor has 1.",
        flag=None, above=0, most=1,
    )  # fmt: skip
    most: int = setting(1000, "Largest number of pairs added to the anchors.", flag=None, least=1)
    draws: int = setting(20, "Draws of each null that a true match must exceed.", least=3)
    min_count: int = setting(
        1, "Only edges of features that were together among the most active of N tokens.",
        least=1, metavar="N",
    )  # fmt: skip
    seed: int = setting(0, "Seed of everything drawn.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.chosen_on is not None and not all(self.pair):
            raise BadInput(
                f"chosen_on is {self.chosen_on!r}; expected two SAEs with a + between them."
            )

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of the truth that are known, ascending, without 0."""
        return tuple(sorted({share for share in self.anchors if share}))

    @property
    def pair(self) -> tuple[str, str]:
        """The two SAEs on which settings are chosen; empty names for none."""
        a, _, b = (self.chosen_on or "").partition("+")
        return a, b

    @property
    def method(self) -> dict[str, Any]:
        """The settings of the methods, which may be chosen on another pair."""
        return {name: value for name, value in asdict(self).items() if name in _METHOD}


def vector_grid(base: GraphMatchingSettings) -> Iterator[GraphMatchingSettings]:
    """Yield the settings of vectors that are tried on another pair."""
    kinds: tuple[Standard, ...] = ("normal", "z")
    for standard, depth in product(kinds, (1, 2, 3)):
        yield replace(base, standard=standard, depth=depth)


def walk_grid(base: GraphMatchingSettings) -> Iterator[GraphMatchingSettings]:
    """Yield the settings of walks that are tried there, those of vectors held fixed."""
    for walks, prior in product((2, 3), (0.1, 0.25, 0.5)):
        yield replace(base, walks=walks, prior=prior)
