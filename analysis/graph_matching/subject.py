"""The input of a matching: graphs and truth from disjoint documents, and scores of baselines."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from analysis.graph.coactivation_graph import CoactivationGraph, graph_of_membership
from analysis.statistics import document_splits
from analysis.statistics.directions import unit_rows
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Mismatch
from atlas.progress import SILENT, Progress
from ingest.codes.topk_membership import open_membership, rule_of
from ingest.match.align import align
from ingest.match.aligned_codes import CodeRows
from ingest.match.cosines import decoders
from ingest.match.inputs import open_side
from ingest.match.settings import MatchSettings
from ingest.match.study import match_documents
from ingest.text.corpus import Corpus

__all__ = [
    "SIGNIFICANT",
    "MatchedGraphs",
    "Sets",
    "activation_scores",
    "correlations",
    "decoder_scores",
    "shared_min_count",
    "shuffled",
    "split",
    "subject_of",
    "truth_of",
]

Ints: TypeAlias = NDArray[np.int64]
Scores: TypeAlias = NDArray[np.float32]

#: Largest q of a match of the truth, under both nulls.
SIGNIFICANT = 0.05

# Features that are active together on fewer tokens are not candidates, as in a match.
_JOINT = 10

_CHUNK = 512  # features of A


@dataclass(frozen=True, eq=False)
class MatchedGraphs:
    """Two graphs and their true counterparts.

    Parameters
    ----------
    a, b
        The graphs; the weight of an edge is its count.
    truth
        int64, (pairs, 2). Live nodes of A and their counterparts in B, one-to-one.
    others
        By name, the scores of baselines for each node of A in the truth; float32,
        (pairs, nodes of B).
    left_out
        Number of true pairs excluded because a node is not live in its graph.
    """

    a: CoactivationGraph
    b: CoactivationGraph
    truth: Ints
    others: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    left_out: int = 0

    def __post_init__(self) -> None:
        live = (self.a.active[self.truth[:, 0]] > 0) & (self.b.active[self.truth[:, 1]] > 0)
        if not live.all():
            raise BadInput(
                f"{np.count_nonzero(~live)} pairs of the truth have a node that is never active; "
                "remove these pairs."
            )


def shuffled(subject: MatchedGraphs, *, seed: int, repeat: int = 0) -> MatchedGraphs:
    """Permute the nodes of B at random, so that indices carry no information."""
    label = np.random.default_rng([seed, repeat, 1]).permutation(subject.b.features)
    where = np.argsort(label)
    return replace(
        subject,
        b=subject.b.relabelled(label),
        truth=np.column_stack([subject.truth[:, 0], label[subject.truth[:, 1]]]),
        others={name: scores[:, where] for name, scores in subject.others.items()},
    )


def subject_of(
    folder: Folder,
    sae_a: str,
    sae_b: str,
    *,
    seed: int = 0,
    repeat: int = 0,
    draws: int = 20,
    min_count: int = 1,
    others: bool = True,
    progress: Progress = SILENT,
) -> MatchedGraphs:
    """Compute the graphs and truth of two SAEs from three disjoint sets of documents.

    Parameters
    ----------
    folder
        The atlas, which stores the codes of both SAEs.
    sae_a, sae_b
        The SAEs.
    seed, repeat
        Seed of the split and of the order of B's labels, and the number of the repeat.
    draws
        Number of draws of each null that a true match must exceed.
    min_count
        Smallest count of an edge in both graphs; see ``shared_min_count``.
    others
        Whether to compute the baselines: activation correlation and decoder cosine.
    progress
        Progress reporter.

    Raises
    ------
    UnknownName, Missing
        If the atlas has no such SAE, or its codes or edges are not stored.
    Mismatch
        If the graphs have different numbers of features per token (k).
    BadInput
        If both SAEs are the same, there are too few documents, or no match is significant under
        both nulls.
    """
    if sae_a == sae_b:
        raise BadInput(
            f"{sae_a} was named twice; select two different SAEs. Run `atlas list` to see the SAEs."
        )
    sets = split(Corpus.open(folder.corpus_file).info.documents, seed=seed, repeat=repeat)
    min_count = shared_min_count(folder, sae_a, sae_b, at_least=min_count)
    graph_a, graph_b = (
        graph_of_membership(
            open_membership(folder, name, documents=documents), min_count=min_count
        ).weighted("count")
        for name, documents in ((sae_a, sets.a), (sae_b, sets.b))
    )
    truth = truth_of(
        folder, sae_a, sae_b, documents=sets.truth, settings=MatchSettings(draws=draws, seed=seed)
    )
    live = (graph_a.active[truth[:, 0]] > 0) & (graph_b.active[truth[:, 1]] > 0)
    truth, left_out = truth[live], int(np.count_nonzero(~live))
    if len(truth) < 2:
        raise BadInput(
            f"{sae_a} and {sae_b} have {left_out + len(truth)} true counterparts, but only {len(truth)} "
            "are active on the documents of both graphs. At least two are needed: ingest more text."
        )
    known = {}
    if others:
        both = np.union1d(sets.a, sets.b)
        known["activation correlation"] = activation_scores(
            folder, sae_a, sae_b, features=truth[:, 0], documents=both
        )
        cosines = decoder_scores(folder, sae_a, sae_b, features=truth[:, 0], progress=progress)
        if cosines is not None:
            known["decoder cosine"] = cosines
    return shuffled(
        MatchedGraphs(graph_a, graph_b, truth, known, left_out), seed=seed, repeat=repeat
    )


def shared_min_count(folder: Folder, sae_a: str, sae_b: str, *, at_least: int = 1) -> int:
    """Return the smallest count of an edge for both graphs.

    It is at least the smallest count of either graph in the atlas, so that both graphs have the
    same threshold.

    Raises
    ------
    Mismatch
        If the graphs have different numbers of features per token (k).
    """
    a, b = (rule_of(folder, name) for name in (sae_a, sae_b))
    if a.k != b.k:
        raise Mismatch(
            f"The graph of {sae_a} has the {a.k} most active features of each token, and that of "
            f"{sae_b} has {b.k}, so they cannot be compared. Ingest one of them again with `replace=True` and "
            "the `k` of the other."
        )
    return max(at_least, a.min_count, b.min_count)


def truth_of(
    folder: Folder, sae_a: str, sae_b: str, *, documents: Ints, settings: MatchSettings
) -> Ints:
    """Return the one-to-one matches on a set of documents significant under both nulls, (pairs, 2).

    Raises
    ------
    BadInput
        If there are fewer than two such matches.
    """
    table = match_documents(
        folder, sae_a, sae_b, documents=documents, settings=settings, brief=True
    )
    clear = table["one_to_one"].to_numpy()
    for q in ("q", "token_q"):
        clear = clear & (np.nan_to_num(table[q].to_numpy(), nan=1.0) <= SIGNIFICANT)
    ends = [
        np.array(
            [int(key.rpartition("/")[2]) for key in table[end].filter(clear).to_pylist()], np.int64
        )
        for end in ("source", "target")
    ]
    if np.count_nonzero(clear) < 2:
        raise BadInput(
            f"{sae_a} and {sae_b} have too few true counterparts: on a third of the documents, "
            f"{np.count_nonzero(clear)} one-to-one matches clear both nulls (q of {SIGNIFICANT} or less). "
            "Ingest more text, or increase `draws`."
        )
    return np.column_stack(ends if sae_a < sae_b else ends[::-1])


class Sets(NamedTuple):
    """Disjoint sets of document numbers, each in ascending order."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    truth: NDArray[np.int64]


def split(documents: int, *, seed: int, repeat: int = 0) -> Sets:
    """Split documents at random into three sets of equal size.

    Parameters
    ----------
    documents
        Number of documents.
    seed, repeat
        Seed of the split, and the number of the repeat.

    Raises
    ------
    BadInput
        If there are fewer than three, or the seed is below 0.
    """
    if seed < 0:
        raise BadInput(f"seed is {seed}; expected 0 or more.")
    if documents < 3:
        raise BadInput(
            f"The text has {documents} documents, but counterparts need at least three: one for each "
            "graph and one for the truth. Ingest more documents."
        )
    return Sets(*document_splits.split(np.arange(documents), 3, seed=seed, repeat=repeat))


def activation_scores(
    folder: Folder,
    sae_a: str,
    sae_b: str,
    *,
    features: NDArray[np.int64],
    documents: NDArray[np.int64],
) -> Scores:
    """Compute Pearson correlations of selected features of A with all features of B.

    Parameters
    ----------
    folder
        The atlas.
    sae_a, sae_b
        The SAEs.
    features
        Features of A.
    documents
        Numbers of the documents to use.

    Returns
    -------
    float32, (features, features of B). -1 for pairs that are not candidates of a match.
    """
    sound = folder.sound()
    a, b = (open_side(folder, sound, name) for name in (sae_a, sae_b))
    with TemporaryDirectory(prefix="counterparts-") as scratch:
        aligned = align(
            a.shards,
            b.shards,
            Corpus.open(folder.corpus_file),
            documents=documents,
            how="tokens" if a.tokenizer == b.tokenizer else "words",
            scratch=Path(scratch),
        )
        return correlations(aligned.a, aligned.b, features)


def correlations(a: CodeRows, b: CodeRows, features: NDArray[np.int64]) -> Scores:
    """Compute Pearson correlations of selected features of A with all features of B."""
    one, two = (
        csr_array(
            (x.values.astype(np.float64), x.indices.astype(np.int64), x.indptr),
            shape=(len(x), x.d_sae),
        )
        for x in (a, b)
    )
    units = max(len(a), 1)
    columns = one.tocsc()[:, features]
    mean_a, mean_b = columns.sum(axis=0) / units, two.sum(axis=0) / units
    spread_a, spread_b = (
        np.sqrt(np.maximum(x.power(2).sum(axis=0) / units - mean**2, 0))
        for x, mean in ((columns, mean_a), (two, mean_b))
    )
    on = csr_array((np.ones(len(two.data)), two.indices, two.indptr), shape=two.shape)
    out = np.full((len(features), b.d_sae), -1, dtype=np.float32)
    for i in range(0, len(features), _CHUNK):
        some = columns[:, i : i + _CHUNK].T.tocsr()
        together = csr_array((np.ones(len(some.data)), some.indices, some.indptr), shape=some.shape)
        joint = (together @ on).toarray()
        covariance = (some @ two).toarray() / units - np.outer(mean_a[i : i + _CHUNK], mean_b)
        spread = np.outer(spread_a[i : i + _CHUNK], spread_b)
        np.divide(
            covariance,
            spread,
            out=out[i : i + _CHUNK],
            where=(joint >= _JOINT) & (spread > 0),
            casting="same_kind",
        )
    return out


def decoder_scores(
    folder: Folder,
    sae_a: str,
    sae_b: str,
    *,
    features: NDArray[np.int64],
    progress: Progress = SILENT,
) -> Scores | None:
    """Compute cosines of decoder vectors of selected features of A with all features of B.

    The result is None if the SAEs write into different spaces or weights are not available.
    """
    sound = folder.sound()
    sides = open_side(folder, sound, sae_a), open_side(folder, sound, sae_b)
    vectors = decoders(sides, progress=progress)
    if vectors is None:
        return None
    a, b = (unit_rows(x, dtype=np.float32) for x in vectors)
    scores: Scores = a[features] @ b.T
    return scores
