"""How stable communities are: over seeds of Leiden's method, over halves of the documents, by chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.communities.detection import (
    agreement,
    edge_weights,
    halves,
    mean_overlap,
    permuted,
)
from analysis.communities.leiden import partition
from analysis.communities.settings import CommunitySettings
from analysis.statistics.bipartite_null import swapped
from atlas.folder import Folder
from atlas.progress import SILENT, Progress
from ingest.codes.subset_graph import weighted_edges
from ingest.codes.topk_membership import Membership, edges

__all__ = ["DOCUMENTS", "Stability", "stability"]

Labels: TypeAlias = NDArray[np.int64]

#: With fewer documents, what halves share says next to nothing.
DOCUMENTS = 10

_AGREEMENTS = ("ami_runs", "ami_halves", "ami_permuted", "ami_null", "ami_documents")


@dataclass(frozen=True, eq=False)
class Stability:
    """What of the communities comes back.

    Parameters
    ----------
    runs
        float64, (communities,). Mean overlap of each with the likest community of Leiden runs of
        other seeds.
    halves, null
        The same with communities of halves of the documents; and what that gives by chance: of
        graphs drawn by the bipartite null, the overlap of the community nearest in size with
        the likest one of halves of that graph. None without halves.
    ami_runs, ami_halves, ami_permuted, ami_null, ami_documents
        Adjusted mutual information, see ``agreement``: with each other run; of the two halves
        of each split; of these, the features of one half permuted; of both halves of a graph
        drawn by the bipartite null; and of one drawn within documents. None where there is
        nothing to agree on.
    note
        Why there are no halves; None if there are.
    """

    runs: NDArray[np.float64]
    halves: NDArray[np.float64] | None
    null: NDArray[np.float64] | None
    ami_runs: Sequence[float | None]
    ami_halves: Sequence[float | None]
    ami_permuted: Sequence[float | None]
    ami_null: Sequence[float | None]
    ami_documents: Sequence[float | None]
    note: str | None = None

    def summary(self) -> dict[str, float | str | None]:
        """Return the mean of each kind of agreement, its range, and of how many values, and the note.

        ``_of`` counts the values that there could be, ``_counted`` those there are.
        """
        said: dict[str, float | str | None] = {}
        for name in _AGREEMENTS:
            values = getattr(self, name)
            known = [value for value in values if value is not None]
            said[name] = float(np.mean(known)) if known else None
            said[f"{name}_low"] = min(known, default=None)
            said[f"{name}_high"] = max(known, default=None)
            said[f"{name}_counted"], said[f"{name}_of"] = len(known), len(values)
        return said | {"halves_note": self.note}


def stability(
    labels: Labels,
    pairs: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    settings: CommunitySettings,
    min_count: int,
    folder: Folder,
    sae: str,
    membership: Membership | None,
    progress: Progress = SILENT,
) -> Stability:
    """Hold communities against those of other runs, of halves of the text, and of chance.

    Drawn graphs have no activations, so all their cosines count as 1: their edges weigh their
    counts, or all the same where the settings leave counts out.

    Parameters
    ----------
    labels
        The community of each feature, found with the seed of the settings.
    pairs, weights
        The edges, and what they weigh.
    settings
        How many runs and splits, and what edges weigh.
    min_count
        As the graph was made with.
    folder, sae
        The atlas and the SAE, whose codes are read again for each half.
    membership
        The most active features of each token; None without codes: no halves then.
    progress
        Told how far it is.
    """
    n = len(labels)
    seeds = np.random.SeedSequence([settings.seed, 1]).generate_state(settings.runs).tolist()
    runs = [_found(pairs, weights, nodes=n, seed=seed) for seed in seeds]
    ami_runs = [agreement(labels, other) for other in runs]
    overlap = mean_overlap(labels, runs)
    if membership is None:
        note = f"The codes of {sae} were not kept, so there are no halves of the text."
        return Stability(overlap, None, None, ami_runs, (), (), (), (), note)
    documents = np.unique(membership.document)
    if len(documents) < DOCUMENTS:
        note = (
            f"Halves of the text of {sae} are left out: of {DOCUMENTS} documents or more they "
            f"would say something, and it has {len(documents)}."
        )
        progress.report(note)
        return Stability(overlap, None, None, ami_runs, (), (), (), (), note)

    def half(documents: NDArray[np.int64]) -> Labels:
        found = weighted_edges(folder, sae, d_sae=n, documents=documents)
        kept = found.count >= min_count
        w = edge_weights(settings.weight, found.count[kept], found.weight[kept])
        return _found(found.pairs[kept], w, nodes=n, seed=settings.seed)

    def drawn(table: Membership) -> Labels:
        some, count = edges(table, min_count=min_count)
        w = edge_weights(settings.weight, count, np.ones(len(count)))
        return _found(some, w, nodes=n, seed=settings.seed)

    rng = np.random.default_rng([settings.seed, 2])
    found: list[tuple[Labels, Labels]] = []
    chance: dict[bool, list[float | None]] = {False: [], True: []}
    null: list[NDArray[np.float64]] = []
    splits = halves(documents, settings.splits, seed=settings.seed)
    with progress.stage(f"Halves of the text of {sae}", total=len(splits), unit="splits") as stage:
        for split in splits:
            found.append((half(split[0]), half(split[1])))
            for within in (False, True):
                table = swapped(membership, int(rng.integers(2**32)), within_documents=within)
                both = [drawn(_restricted(table, some)) for some in split]
                chance[within].append(agreement(*both))
                if not within:
                    null.append(_of_like_size(labels, drawn(table), both))
            stage.advance()
    return Stability(
        runs=overlap,
        halves=mean_overlap(labels, [one for both in found for one in both]),
        null=np.mean(null, axis=0),
        ami_runs=ami_runs,
        ami_halves=[agreement(a, b) for a, b in found],
        ami_permuted=[agreement(permuted(a, rng), b) for a, b in found],
        ami_null=chance[False],
        ami_documents=chance[True],
    )


def _of_like_size(labels: Labels, whole: Labels, parts: Sequence[Labels]) -> NDArray[np.float64]:
    """Return, for each community, the overlap that the one nearest in size of a drawn graph has.

    The drawn graph's communities are held against its own halves, as the real ones are against
    theirs: halves lie within the whole, so even communities of nothing come back in part. NaN
    where a graph has no community.
    """
    size = np.bincount(labels[labels >= 0], minlength=int(labels.max(initial=-1)) + 1)
    of = np.bincount(whole[whole >= 0])
    if not len(of):
        return np.full(len(size), np.nan)
    nearest = np.abs(size[:, None] - of).argmin(axis=1)
    found: NDArray[np.float64] = mean_overlap(whole, parts)[nearest]
    return found


def _found(
    pairs: NDArray[np.int64], weights: NDArray[np.float64], *, nodes: int, seed: int
) -> Labels:
    import igraph

    return partition(igraph.Graph(n=nodes, edges=pairs), weights=weights, seed=seed).labels


def _restricted(membership: Membership, documents: NDArray[np.int64]) -> Membership:
    """Return the tokens of some documents only; ``active`` stays that of all, as edges ask not for it."""
    kept = np.isin(membership.document, documents)
    sizes = np.diff(membership.indptr)
    return changed(
        membership,
        indptr=np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[kept])]),
        features=membership.features[np.repeat(kept, sizes)],
        document=membership.document[kept],
    )
