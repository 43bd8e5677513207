"""The graphs of an SAE for a comparison: all documents, halves, and nulls."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.graph.coactivation_graph import (
    CoactivationGraph,
    at_equal_tokens,
    graph_of_documents,
    graph_of_membership,
)
from analysis.graph_comparison.communities import Labels, communities
from analysis.graph_comparison.settings import ComparisonSettings
from analysis.statistics.document_splits import Halving, document_subset, halve
from analysis.statistics.nulls import swapped
from atlas.api import Atlas
from atlas.errors import Mismatch
from atlas.progress import SILENT, Progress
from ingest.codes.topk_membership import Membership, rule_of

__all__ = ["ComparedGraph", "read_subjects"]


@dataclass(frozen=True, eq=False)
class ComparedGraph:
    """The graphs of one SAE.

    Parameters
    ----------
    of
        The graph as read from the atlas.
    full
        The graph of all documents, with weights.
    halves
        The graphs of both halves of the documents, for each halving; empty without codes.
    nulls, half_nulls
        Bipartite null graphs of all tokens, and of the second half of the first halvings; empty
        without codes.
    half_tokens
        Number of tokens of each half of each halving; (2 · halvings,).
    settings
        Settings of the comparison.
    """

    of: CoactivationGraph
    full: CoactivationGraph
    halves: Sequence[tuple[CoactivationGraph, CoactivationGraph]]
    nulls: Sequence[CoactivationGraph]
    half_nulls: Sequence[CoactivationGraph]
    half_tokens: Sequence[int]
    settings: ComparisonSettings

    @property
    def live(self) -> NDArray[np.bool_]:
        """Whether each feature is ever active; (features,)."""
        return self.of.active > 0

    @cached_property
    def communities(self) -> list[Labels]:
        """The communities of the graph of all documents, for each run."""
        return self._communities(self.full)

    @cached_property
    def half_communities(self) -> list[tuple[list[Labels], list[Labels]]]:
        """The communities of the graphs of both halves, for each halving."""
        return [(self._communities(x), self._communities(y)) for x, y in self.halves]

    def _communities(self, graph: CoactivationGraph) -> list[Labels]:
        return communities(graph, runs=self.settings.leiden_runs, seed=self.settings.seed)


def read_subjects(
    atlas: Atlas, saes: Sequence[str], settings: ComparisonSettings, *, progress: Progress = SILENT
) -> list[ComparedGraph]:
    """Read the graphs of SAEs at equal numbers of tokens, split documents, and draw nulls.

    Parameters
    ----------
    atlas
        The atlas.
    saes
        Names of the SAEs.
    settings
        Settings of the comparison.
    progress
        Progress reporter.

    Raises
    ------
    Mismatch
        If an SAE was counted over more tokens than another and its codes are not stored, or if
        the graphs have different numbers of features per token (k).
    """
    s = settings
    _check_k(atlas, saes)
    graphs = at_equal_tokens(atlas, saes, min_count=s.min_count)
    with_codes = {of.sae: _documents(of) for of in graphs if of.membership is not None}
    divided = halve(list(with_codes.values()), s.halves, seed=s.seed) if with_codes else []
    halvings = dict(zip(with_codes, divided, strict=True))
    found = []
    with progress.stage("Graphs of halves and nulls", total=len(graphs), unit="SAEs") as stage:
        for of in graphs:
            found.append(_subject(atlas, of, halvings.get(of.sae, []), s))
            stage.advance()
    return found


def _check_k(atlas: Atlas, saes: Sequence[str]) -> None:
    if atlas.folder is None:
        return
    k = {name: rule_of(atlas.folder, name).k for name in saes}
    one, two = min(k, key=lambda name: k[name]), max(k, key=lambda name: k[name])
    if k[one] < k[two]:
        raise Mismatch(
            f"The graph of {one} joins the {k[one]} most active features of a token and that of {two} "
            f"the {k[two]}, so they cannot be compared. Ingest one again with the `k` of the other."
        )


def _documents(of: CoactivationGraph) -> NDArray[np.int64]:
    """Return the document of each token, without an incomplete last document."""
    assert of.membership is not None
    document = of.membership.document
    if of.tokens == of.counted or not len(document):
        return document
    complete: NDArray[np.int64] = document[document != document[-1]]
    return complete


def _subject(
    atlas: Atlas, of: CoactivationGraph, halvings: Sequence[Halving], s: ComparisonSettings
) -> ComparedGraph:
    nulls: list[CoactivationGraph] = []
    half_nulls: list[CoactivationGraph] = []
    half_tokens: list[int] = []
    if of.membership is not None:
        seeds = np.random.SeedSequence(s.seed).generate_state(2 * s.null_graphs).tolist()
        nulls = [
            _null(of.membership, one, min_count=of.min_count) for one in seeds[: s.null_graphs]
        ]
        for one, (_, second) in zip(seeds[s.null_graphs :], halvings, strict=False):
            half = document_subset(of.membership, second)
            half_nulls.append(_null(half, one, min_count=of.min_count))
        half_tokens = [int(np.isin(of.membership.document, d).sum()) for h in halvings for d in h]
    return ComparedGraph(
        of=of,
        full=of.weighted(s.weight),
        halves=[(_half(atlas, of, x, s), _half(atlas, of, y, s)) for x, y in halvings],
        nulls=nulls,
        half_nulls=half_nulls,
        half_tokens=half_tokens,
        settings=s,
    )


def _half(
    atlas: Atlas, of: CoactivationGraph, documents: NDArray[np.int64], s: ComparisonSettings
) -> CoactivationGraph:
    """Return the graph of a subset of documents, with weights from these documents."""
    assert atlas.folder is not None
    assert of.membership is not None
    if s.weight in ("none", "count"):  # these weights need no second pass over the codes
        found = graph_of_membership(of.membership, min_count=of.min_count, documents=documents)
    else:
        found = graph_of_documents(
            atlas.folder, of.sae, documents=documents, min_count=of.min_count
        )
    return found.weighted(s.weight)


def _null(membership: Membership, seed: int, *, min_count: int) -> CoactivationGraph:
    """Draw a graph from the bipartite null; it has no weights."""
    drawn = swapped(membership, seed, within_documents=False)
    return graph_of_membership(drawn, min_count=min_count)
