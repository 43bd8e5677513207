"""Cost of null graphs over all tokens, measured on null graphs over the first tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.nulls import swapped
from atlas.disk.folder import Folder
from atlas.studies.forecast import timed
from ingest.codes.topk_membership import Membership, edges, open_membership

if TYPE_CHECKING:
    import igraph

__all__ = ["DrawCost", "TokenSample"]

#: Denominator of the share of tokens in the larger sample, its fewest tokens, and its size relative
#: to the smaller sample.
_SHARE, _LEAST, _LARGER = 16, 4000, 4

#: Copies of the membership in memory while features are swapped.
_COPIES = 4


@dataclass(frozen=True)
class DrawCost:
    """Seconds of one null graph over all tokens.

    Parameters
    ----------
    swap
        To swap features between tokens, and to count the edges; linear in the tokens.
    graph
        To build and measure the graph; linear in its edges.
    """

    swap: float
    graph: float

    @property
    def seconds(self) -> float:
        """Seconds of the complete draw."""
        return self.swap + self.graph


class TokenSample:
    """The most active features of the first tokens of an SAE, to measure the cost of null graphs.

    The number of edges over all tokens is extrapolated from two samples: it grows as a power of
    the number of tokens, and cannot exceed the number of pairs of features.

    Parameters
    ----------
    folder, sae
        The atlas and the SAE, whose codes are stored.
    tokens
        Number of tokens of the complete graph.
    min_count
        Smallest count of an edge.

    Attributes
    ----------
    sample, small
        The larger and the smaller sample. A first call on the smaller one loads compiled loops.
    """

    def __init__(self, folder: Folder, sae: str, *, tokens: int, min_count: int) -> None:
        large = min(tokens, max(_LEAST, tokens // _SHARE))
        small = max(1, large // _LARGER)
        self.min_count = min_count
        self.small = open_membership(folder, sae, tokens=small)
        seconds = timed(lambda: open_membership(folder, sae, tokens=large))
        self.sample: Membership = open_membership(folder, sae, tokens=large)
        self.scale = tokens / large
        self.reading = seconds * self.scale
        arrays = [v for v in vars(self.sample).values() if isinstance(v, np.ndarray)]
        self.bytes = int(_COPIES * self.scale * sum(a.nbytes for a in arrays))

    @property
    def documents(self) -> NDArray[np.int64]:
        """Numbers of the documents of the sample."""
        return np.unique(self.sample.document)

    def draw(
        self, *, within_documents: bool, measure: Callable[["igraph.Graph"], object]
    ) -> DrawCost:
        """Return the cost of one null graph.

        Parameters
        ----------
        within_documents
            Whether features are swapped within documents.
        measure
            What is computed of each graph.
        """
        import igraph

        drawn: list[NDArray[np.int64]] = []

        def swap(table: Membership) -> None:
            table = swapped(table, 1, within_documents=within_documents)
            drawn.append(edges(table, min_count=self.min_count)[0])

        swap(self.small)  # the first call compiles loops
        seconds = timed(lambda: swap(self.sample)) * self.scale
        few, more = (len(pairs) for pairs in drawn)
        graph = timed(lambda: measure(igraph.Graph(n=self.sample.d_sae, edges=drawn[1])))
        return DrawCost(seconds, graph * self._growth(few, more))

    def _growth(self, few: int, more: int) -> float:
        """Return the edges over all tokens, relative to those of the sample."""
        pairs = self.sample.d_sae * (self.sample.d_sae - 1) / 2
        if not few or not more:
            return self.scale
        ratio = len(self.sample) / len(self.small)
        power = math.log(more / few) / math.log(ratio) if ratio > 1 else 1.0
        growth = float(self.scale ** max(power, 0.0))
        return max(1.0, min(growth, pairs / more))
