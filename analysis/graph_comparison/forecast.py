"""Forecast of graph comparisons, measured on one pair with few draws and without halves."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.graph.coactivation_graph import CoactivationGraph, graph_of_documents, read_graph
from analysis.graph.draw_cost import TokenSample
from analysis.graph_comparison.communities import Labels, communities, overlap_null
from analysis.graph_comparison.matched_features import Partners
from analysis.graph_comparison.metrics import conserved_rows, distance_rows
from analysis.graph_comparison.settings import ComparisonSettings
from analysis.graph_comparison.subjects import ComparedGraph
from analysis.statistics.nulls import rewired_bytes
from atlas.disk.folder import Folder
from atlas.studies.forecast import Cost, timed

if TYPE_CHECKING:
    import igraph

__all__ = ["comparison_cost"]

#: Draws of the two samples.
_DRAWS = (1, 3)


def comparison_cost(
    folder: Folder,
    pair: tuple[str, str],
    settings: ComparisonSettings,
    *,
    partners: Partners | None,
    tokens: int,
    min_count: int,
) -> tuple[Cost, Cost]:
    """Return the cost of the graphs of one SAE, and of the comparison of one pair without them.

    Parameters
    ----------
    folder
        The atlas.
    pair
        Names of two SAEs.
    settings
        Settings of the comparison.
    partners
        Their matches; None if there are none.
    tokens, min_count
        Number of tokens of the graphs, and smallest count of an edge.
    """
    sides = [_side(folder, name, settings, tokens, min_count) for name in pair]
    one = np.mean([side.graphs for side in sides])
    two = sum(side.communities for side in sides) if partners else 0.0
    two += _pair(sides[0], sides[1], partners, settings)
    # All halvings swap edges at the same time.
    marks = settings.halves * rewired_bytes(len(partners)) if partners else 0
    return Cost(float(one), max(side.bytes for side in sides)), Cost(float(two), marks)


@dataclass(frozen=True, eq=False)
class _Side:
    """One SAE: its graph and communities, and seconds for all its graphs and their communities."""

    graph: CoactivationGraph
    labels: Labels
    graphs: float
    communities: float
    bytes: int


def _side(folder: Folder, sae: str, s: ComparisonSettings, tokens: int, min_count: int) -> _Side:
    read: list[CoactivationGraph] = []
    seconds = timed(
        lambda: read.append(
            read_graph(folder, sae, min_count=min_count, tokens=tokens, codes=False)
        )
    )
    (of,) = read
    measured = timed(lambda: _measure(of.graph))
    halves, size = 0, of.pairs.nbytes
    if f"codes/{sae}" in folder.sound().parts:
        halves = s.halves
        sample = TokenSample(folder, sae, tokens=tokens, min_count=min_count)
        half = timed(
            lambda: graph_of_documents(folder, sae, documents=sample.documents, min_count=min_count)
        )
        null = sample.draw(within_documents=False, measure=_measure).seconds
        # A half has half of the tokens, and at most as many edges as all tokens.
        seconds += 2 * halves * (half * sample.scale / 2 + measured)
        seconds += (s.null_graphs + halves / 2) * null + sample.reading
        size += sample.bytes
    found: list[Labels] = []
    one = timed(lambda: found.extend(communities(of.weighted(s.weight), runs=1, seed=s.seed)))
    runs = s.leiden_runs * (1 + 2 * halves)
    return _Side(of, found[0], seconds + measured, runs * one, size)


def _measure(graph: "igraph.Graph") -> None:
    """Compute the statistics whose distributions are compared."""
    graph.transitivity_local_undirected(mode="zero")
    graph.coreness()


def _pair(a: _Side, b: _Side, partners: Partners | None, s: ComparisonSettings) -> float:
    """Return the seconds of the rows of a pair without those of finding communities."""

    def subject(side: _Side, draws: int) -> ComparedGraph:
        few = replace(s, draws=draws)
        return ComparedGraph(side.graph, side.graph.weighted(s.weight), [], [], [], [], few)

    def distance(draws: int) -> object:
        return distance_rows(subject(a, draws), subject(b, draws))

    seconds = _extrapolated(distance, s.draws)
    if not partners:
        return seconds
    # Permuting takes as long within one stratum as within several.
    stratum: Labels = np.zeros(len(partners), dtype=np.int64)
    labels = [([a.labels[partners.a]], [b.labels[partners.b]])]

    def conserved(draws: int) -> object:
        return conserved_rows(subject(a, draws), subject(b, draws), partners, stratum=stratum)

    def overlap(draws: int) -> object:
        return overlap_null(labels, stratum, draws=draws, seed=s.seed)

    # Over halves, each draw is measured on every halving.
    of_all = _extrapolated(conserved, s.draws) + s.leiden_runs * _extrapolated(overlap, s.draws)
    return seconds + of_all * (1 + s.halves)


def _extrapolated(work: Callable[[int], object], draws: int) -> float:
    """Return the seconds of some draws, from those of ``_DRAWS``."""
    few, more = _DRAWS
    first = timed(lambda: work(few))
    second = timed(lambda: work(more))
    return second + max(0.0, second - first) / (more - few) * (draws - more)
