"""Statistics of co-activation graphs and comparisons with nulls, for `atlas graph-stats`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.graph.coactivation_graph import CoactivationGraph
from analysis.graph.distributions import correlate, modes
from analysis.graph.graph_statistics import describe
from analysis.graph.growth import growth
from analysis.graph.null_comparison import (
    NULLS,
    Numbers,
    bipartite,
    compare,
    configuration,
    numbers_of,
)
from atlas.errors import Missing
from atlas.progress import SILENT, Progress

if TYPE_CHECKING:
    import igraph

__all__ = ["drawable", "growth_rows", "null_rows", "summary"]


def summary(of: CoactivationGraph, *, seed: int = 0) -> dict[str, Any]:
    """Compute all statistics of one graph, by name.

    They are those of ``GraphStatistics``, the correlation of degree and frequency, and in
    ``modes`` the dip tests of degree, frequency and their logarithms.
    """
    degree = np.array(of.graph.degree(), dtype=np.int64)
    shape = asdict(describe(of.graph, seed=seed))
    notes = shape.pop("notes")
    r = correlate(degree, of.active)
    if r.pearson is None:
        notes["degree_frequency"] = "fewer than two features differ in degree or frequency"
    tested = {
        name: modes(counts, log=log, seed=seed)
        for name, counts, log in (
            ("degree", degree, False),
            ("log degree", degree, True),
            ("frequency", of.active, False),
            ("log frequency", of.active, True),
        )
    }
    for name, each in tested.items():
        if each.p is None:
            notes[f"modes of {name}"] = f"only {each.n} features have one above 0"
    return {
        "sae": of.sae,
        "tokens": of.tokens,
        "counted": of.counted,
        "min_count": of.min_count,
        **shape,
        "dead": int(np.sum(of.active == 0)),
        "degree_frequency_pearson": r.pearson,
        "degree_frequency_spearman": r.spearman,
        "degree_frequency_n": r.n,
        "modes": {name: asdict(each) for name, each in tested.items()},
        "notes": notes,
    }


def drawable(of: CoactivationGraph) -> list[str]:
    """Return the nulls available for a graph; all but ``configuration`` need its codes."""
    if not len(of.pairs):
        return []
    return [name for name in NULLS if name == "configuration" or of.membership is not None]


def null_rows(
    of: CoactivationGraph,
    nulls: Sequence[str],
    *,
    draws: int = 10,
    seed: int = 0,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Compare a graph with null graphs, with one row per null and statistic.

    Parameters
    ----------
    of
        The graph.
    nulls
        Names of ``NULLS``.
    draws, seed
        Number of graphs per null, and their seed.
    progress
        Progress reporter.

    Raises
    ------
    Missing
        If a null that swaps features is requested and codes are not stored.
    """
    for name in nulls:
        if name != "configuration" and of.membership is None:
            raise Missing(
                f"The null {name!r} swaps features between tokens, and the codes of {of.sae} are not "
                "stored: a server stores none. Ingest it again with `keep_codes=True` and `replace=True`, or select "
                "`nulls='configuration'`."
            )

    def measure(graph: "igraph.Graph", seed: int) -> Numbers:
        return numbers_of(graph, of.active, seed=seed)

    observed = measure(of.graph, seed)
    rows = []
    for name in nulls:
        if name == "configuration":
            draw = configuration(of.graph)
        else:
            assert of.membership is not None
            within = name == "documents"
            draw = bipartite(of.membership, within_documents=within, min_count=of.min_count)
        found = compare(
            observed,
            draw,
            measure=measure,
            draws=draws,
            seed=seed,
            progress=progress,
            title=f"Null graphs of {of.sae} ({name})",
        )
        rows += [{"sae": of.sae, "null": name, **asdict(one)} for one in found]
    return rows


def growth_rows(of: CoactivationGraph) -> list[dict[str, Any]]:
    """Compute the growth of a graph over tokens, with one row per point.

    Raises
    ------
    Missing
        If codes are not stored.
    """
    if of.membership is None:
        raise Missing(
            f"Growth over tokens needs the codes of {of.sae}, which are not stored. Ingest it again "
            "with `keep_codes=True` and `replace=True`, and open the atlas from its folder."
        )
    return [
        {"sae": of.sae, **asdict(point)} for point in growth(of.membership, min_count=of.min_count)
    ]
