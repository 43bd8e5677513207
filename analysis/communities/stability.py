"""Stability of communities over Leiden seeds and halves of the documents, and under nulls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.communities.detection import (
    agreement,
    mean_overlap,
    permuted,
)
from analysis.communities.leiden import partition
from analysis.communities.settings import CommunitySettings
from analysis.graph.coactivation_graph import (
    CoactivationGraph,
    graph_of_documents,
    graph_of_membership,
)
from analysis.statistics.document_splits import split
from analysis.statistics.nulls import swapped
from atlas.disk.folder import Folder
from atlas.progress import SILENT, Progress
from ingest.codes.topk_membership import Membership

__all__ = ["DOCUMENTS", "Stability", "stability"]

Labels: TypeAlias = NDArray[np.int64]

#: With fewer documents, agreement between halves is not informative.
DOCUMENTS = 10

_AGREEMENTS = ("ami_runs", "ami_halves", "ami_permuted", "ami_null", "ami_documents")


@dataclass(frozen=True, eq=False)
class Stability:
    """Stability of communities over Leiden runs and halves of the documents.

    Parameters
    ----------
    runs
        float64, (communities,). Mean overlap of each community with its best match in Leiden runs
        with other seeds.
    halves, null, null_high
        The same for communities of halves of the documents, its mean under the bipartite null, and
        its highest value in any null graph, bipartite or within documents. The null value is
        that of the community nearest in size in a null graph, compared with halves of that
        null graph. None without halves.
    ami_runs, ami_halves, ami_permuted, ami_null, ami_documents
        Adjusted mutual information, see ``agreement``. In order: with each other run; between the
        halves of each split; the same with the features of one half permuted; between halves
        of a bipartite null graph; and between halves of a null graph within documents.
    note
        The reason for missing halves, or None.
    """

    runs: NDArray[np.float64]
    halves: NDArray[np.float64] | None
    null: NDArray[np.float64] | None
    null_high: NDArray[np.float64] | None
    ami_runs: Sequence[float | None]
    ami_halves: Sequence[float | None]
    ami_permuted: Sequence[float | None]
    ami_null: Sequence[float | None]
    ami_documents: Sequence[float | None]
    note: str | None = None

    def summary(self) -> dict[str, float | str | None]:
        """Return the mean, range and number of values of each kind of agreement, and the note.

        ``_of`` counts all values, and ``_counted`` those that are not None.
        """
        summary: dict[str, float | str | None] = {}
        for name in _AGREEMENTS:
            values = getattr(self, name)
            known = [value for value in values if value is not None]
            summary[name] = float(np.mean(known)) if known else None
            summary[f"{name}_low"] = min(known, default=None)
            summary[f"{name}_high"] = max(known, default=None)
            summary[f"{name}_counted"], summary[f"{name}_of"] = len(known), len(values)
        return summary | {"halves_note": self.note}


def stability(
    labels: Labels,
    graph: CoactivationGraph,
    *,
    settings: CommunitySettings,
    folder: Folder,
    progress: Progress = SILENT,
) -> Stability:
    """Compare communities with those of other Leiden runs, document halves and null graphs.

    Null graphs have no activations, so all their cosines count as 1. Their edges are weighted by
    count, or equally if the settings exclude counts.

    Parameters
    ----------
    labels
        The community of each feature, computed with the seed of the settings.
    graph
        The graph of the SAE. Without a membership, halves are omitted.
    settings
        Number of runs and splits, and the kind of edge weight.
    folder
        The atlas; the codes are read for each half.
    progress
        Progress reporter.
    """
    sae, membership = graph.sae, graph.membership
    weights = graph.edge_weights(settings.weight)
    seeds = np.random.SeedSequence([settings.seed, 1]).generate_state(settings.runs).tolist()
    runs = [partition(graph.graph, weights=weights, seed=seed).labels for seed in seeds]
    ami_runs = [agreement(labels, other) for other in runs]
    overlap = mean_overlap(labels, runs)
    if membership is None:
        return Stability(overlap, None, None, None, ami_runs, (), (), (), (), _without_codes(sae))
    documents = np.unique(membership.document)
    if len(documents) < DOCUMENTS:
        note = (
            f"Communities of halves of the documents are not compared: {DOCUMENTS} documents or "
            f"more are needed, and {sae} has {len(documents)}."
        )
        progress.report(note)
        return Stability(overlap, None, None, None, ami_runs, (), (), (), (), note)
    communities = _Communities(graph, settings, folder)
    rng = np.random.default_rng([settings.seed, 2])
    found: list[tuple[Labels, Labels]] = []
    null_agreement: dict[bool, list[float | None]] = {False: [], True: []}
    null: dict[bool, list[NDArray[np.float64]]] = {False: [], True: []}
    splits = [split(documents, 2, seed=settings.seed, repeat=i) for i in range(settings.splits)]
    with progress.stage(
        f"Halves of the documents of {sae}", total=len(splits), unit="splits"
    ) as stage:
        for one, two in splits:
            found.append((communities.of(one), communities.of(two)))
            for within in (False, True):
                table = swapped(membership, int(rng.integers(2**32)), within_documents=within)
                both = [communities.drawn(table, some) for some in (one, two)]
                null_agreement[within].append(agreement(*both))
                null[within].append(_null_overlap(labels, communities.drawn(table), both))
            stage.advance()
    return Stability(
        runs=overlap,
        halves=mean_overlap(labels, [one for both in found for one in both]),
        null=np.mean(null[False], axis=0),
        null_high=np.fmax.reduce([*null[False], *null[True]]),
        ami_runs=ami_runs,
        ami_halves=[agreement(a, b) for a, b in found],
        ami_permuted=[agreement(permuted(a, rng), b) for a, b in found],
        ami_null=null_agreement[False],
        ami_documents=null_agreement[True],
    )


def _without_codes(sae: str) -> str:
    return (
        f"Communities of halves of the documents are not compared: the codes of {sae} are not "
        "stored. `atlas ingest --keep-codes --replace` stores them."
    )


@dataclass(frozen=True, eq=False)
class _Communities:
    """Finds communities of a graph over some documents, as the settings say."""

    graph: CoactivationGraph
    settings: CommunitySettings
    folder: Folder

    def of(self, documents: NDArray[np.int64]) -> Labels:
        """Return the communities of the graph of some documents."""
        sae, min_count = self.graph.sae, self.graph.min_count
        return self._labels(
            graph_of_documents(self.folder, sae, documents=documents, min_count=min_count)
        )

    def drawn(self, table: Membership, documents: NDArray[np.int64] | None = None) -> Labels:
        """Return the communities of the graph of a drawn membership, or of some documents of it."""
        min_count = self.graph.min_count
        return self._labels(graph_of_membership(table, min_count=min_count, documents=documents))

    def _labels(self, graph: CoactivationGraph) -> Labels:
        weights = graph.edge_weights(self.settings.weight)
        return partition(graph.graph, weights=weights, seed=self.settings.seed).labels


def _null_overlap(labels: Labels, drawn: Labels, halves: Sequence[Labels]) -> NDArray[np.float64]:
    """Return the overlap of the community nearest in size in a null graph, per community.

    The communities of the null graph are compared with its own halves, like the observed ones
    with theirs. Halves share tokens with the complete graph, so even random communities
    overlap. NaN if the null graph has no community.
    """
    size = np.bincount(labels[labels >= 0], minlength=int(labels.max(initial=-1)) + 1)
    drawn_size = np.bincount(drawn[drawn >= 0])
    if not len(drawn_size):
        return np.full(len(size), np.nan)
    nearest = np.abs(size[:, None] - drawn_size).argmin(axis=1)
    overlap: NDArray[np.float64] = mean_overlap(drawn, halves)[nearest]
    return overlap
