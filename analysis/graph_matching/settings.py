"""Settings of graph matching, and the grid for choosing them on another pair."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal, TypeAlias

from atlas.errors import BadInput
from atlas.studies.settings import check_settings, documented, setting

__all__ = ["ANCHORS", "GraphMatchingSettings", "Standard", "vector_grid", "walk_grid"]

Standard: TypeAlias = Literal["normal", "z"]

_METHOD = ("standard", "depth", "walks", "rounds", "prior", "doubt", "most")

#: Default shares of known counterparts.
ANCHORS = (0.01, 0.05, 0.1, 0.5)


@documented
@dataclass(frozen=True)
class GraphMatchingSettings:
    """Settings of ``analysis.graph_matching.study.find_counterparts``."""

    anchors: tuple[float, ...] = setting(
        ANCHORS,
        "Share of the true counterparts that are known; 0 for none.",
        flag="anchor",
        least=0,
        below=1,
        metavar="SHARE",
    )
    repeats: int = setting(
        5, "Number of repeats, each with its own split of documents and anchors.", least=1, paper=20
    )
    chosen_on: str | None = setting(
        None,
        "Choose settings on this other pair of SAEs, by mean reciprocal rank over a small grid.",
        metavar="C+D",
        shown="settings are not chosen",
    )

    standard: Standard = setting(
        "normal",
        "Standardization of node statistics within each graph: normal scores of their ranks, or "
        "z scores.",
    )
    depth: int = setting(
        2,
        "Number of times that statistics are averaged over neighbours, for the propagated vectors.",
        least=0,
    )
    walks: int = setting(3, "Length of the longest walk from a node to the anchors.", least=1)
    rounds: int = setting(
        6, "Number of rounds that add matched pairs to the anchors; 0 for none.", least=0
    )
    prior: float = setting(
        0.25,
        "Weight of a node's propagated vector relative to its walks, until the last round.",
        least=0,
    )
    doubt: float = setting(
        0.3,
        "Weight of a matched pair as an anchor; a known anchor has weight 1.",
        flag=None,
        above=0,
        most=1,
    )
    most: int = setting(
        1000, "Largest number of matched pairs among the anchors.", flag=None, least=1
    )
    draws: int = setting(
        20, "Number of draws of each null that a true match must exceed.", least=3, paper=199
    )
    min_count: int = setting(
        1,
        "Only pairs of features that are among the most active together on N or more tokens.",
        least=1,
        metavar="N",
    )
    seed: int = setting(0, "Seed of all random draws.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.chosen_on is not None and not all(self.pair):
            raise BadInput(
                f"chosen_on is {self.chosen_on!r}; expected two SAEs with a + between them."
            )

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of known counterparts, ascending, without 0."""
        return tuple(sorted({share for share in self.anchors if share}))

    @property
    def pair(self) -> tuple[str, str]:
        """The two SAEs on which settings are chosen; empty names for none."""
        a, _, b = (self.chosen_on or "").partition("+")
        return a, b

    @property
    def method(self) -> dict[str, Any]:
        """The settings of the methods, which can be chosen on another pair."""
        return {name: value for name, value in asdict(self).items() if name in _METHOD}


def vector_grid(base: GraphMatchingSettings) -> Iterator[GraphMatchingSettings]:
    """Yield the grid of settings of vectors."""
    kinds: tuple[Standard, ...] = ("normal", "z")
    for standard, depth in product(kinds, (1, 2, 3)):
        yield replace(base, standard=standard, depth=depth)


def walk_grid(base: GraphMatchingSettings) -> Iterator[GraphMatchingSettings]:
    """Yield the grid of settings of walks, with those of vectors fixed."""
    for walks, prior in product((2, 3), (0.1, 0.25, 0.5)):
        yield replace(base, walks=walks, prior=prior)
