"""The input of a matching: two graphs, the second with shuffled labels, and the truth."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.graph_matching.baselines import activation_scores, decoder_scores
from analysis.graph_matching.documents import split
from analysis.graph_matching.graphs import NodeGraph, graph_of_membership
from atlas.errors import BadInput, Mismatch
from atlas.folder import Folder
from atlas.progress import SILENT, Progress
from ingest.codes.topk_membership import open_membership, rule_of
from ingest.match.settings import MatchSettings
from ingest.match.study import match_documents
from ingest.text.corpus import Corpus

__all__ = ["SIGNIFICANT", "Subject", "shared_min_count", "shuffled", "subject_of", "truth_of"]

Ints: TypeAlias = NDArray[np.int64]

#: The truth is of matches whose q is no higher, under both nulls.
SIGNIFICANT = 0.05


@dataclass(frozen=True, eq=False)
class Subject:
    """Two graphs and their true counterparts.

    Parameters
    ----------
    a, b
        The graphs.
    truth
        int64, (pairs, 2). A node of A and its counterpart in B; both live, none twice.
    others
        By name: float32, (pairs, nodes of B). What kinds of matching that need no graph say
        of each node of A in the truth.
    left_out
        Pairs of the truth that are not live in both graphs.
    """

    a: NodeGraph
    b: NodeGraph
    truth: Ints
    others: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    left_out: int = 0

    def __post_init__(self) -> None:
        live = (self.a.active[self.truth[:, 0]] > 0) & (self.b.active[self.truth[:, 1]] > 0)
        if not live.all():
            raise BadInput(
                f"{np.count_nonzero(~live)} pairs of the truth are of nodes that are never active; "
                "leave them out."
            )


def shuffled(subject: Subject, *, seed: int, repeat: int = 0) -> Subject:
    """Return the same with B's nodes in a random order, so that indices carry no information."""
    label = np.random.default_rng([seed, repeat, 1]).permutation(len(subject.b))
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
) -> Subject:
    """Make graphs and truth of two SAEs from three disjoint sets of documents.

    Parameters
    ----------
    folder
        The atlas, which stores the codes of both SAEs.
    sae_a, sae_b
        The SAEs.
    seed, repeat
        What the sets, and the order of B's labels, are drawn from.
    draws
        Draws of each null that a match of the truth must clear.
    min_count
        Edges are pairs met on so many tokens, in both graphs; see ``shared_min_count``.
    others
        Whether activations, over both graphs' documents, and decoder vectors are compared too.
    progress
        Notified of what is missing.

    Raises
    ------
    UnknownName, Missing
        If there is no such SAE, or its codes or edges are not stored.
    Mismatch
        If their graphs were made of different numbers of most active features.
    BadInput
        If it is one SAE twice, there are too few documents, or no match clears both nulls.
    """
    if sae_a == sae_b:
        raise BadInput(
            f"{sae_a} was named twice; counterparts are searched in another SAE. `atlas list` shows them."
        )
    sets = split(Corpus.open(folder.corpus_file).info.documents, seed=seed, repeat=repeat)
    min_count = shared_min_count(folder, sae_a, sae_b, at_least=min_count)
    graph_a, graph_b = (
        graph_of_membership(open_membership(folder, name, documents=documents), min_count=min_count)
        for name, documents in ((sae_a, sets.a), (sae_b, sets.b))
    )
    truth = truth_of(folder, sae_a, sae_b, documents=sets.truth,
                     settings=MatchSettings(draws=draws, seed=seed))  # fmt: skip
    live = (graph_a.active[truth[:, 0]] > 0) & (graph_b.active[truth[:, 1]] > 0)
    truth, left_out = truth[live], int(np.count_nonzero(~live))
    if len(truth) < 2:
        raise BadInput(
            f"{sae_a} and {sae_b} have {left_out + len(truth)} true counterparts, of which {len(truth)} "
            "are active on the documents of both graphs; two are needed. Ingest more text."
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
    return shuffled(Subject(graph_a, graph_b, truth, known, left_out), seed=seed, repeat=repeat)


def shared_min_count(folder: Folder, sae_a: str, sae_b: str, *, at_least: int = 1) -> int:
    """Return the least number of tokens that makes an edge in both graphs.

    It is no smaller than the least count of either graph in the atlas, so that both are cut at the
    same count.

    Raises
    ------
    Mismatch
        If the graphs were made of different numbers of most active features.
    """
    a, b = (rule_of(folder, name) for name in (sae_a, sae_b))
    if a.k != b.k:
        raise Mismatch(
            f"The graph of {sae_a} is made of the {a.k} most active features of each token, that of "
            f"{sae_b} of {b.k}, and they cannot be compared; ingest one of them again with --replace and "
            "the --k of the other."
        )
    return max(at_least, a.min_count, b.min_count)


def truth_of(
    folder: Folder, sae_a: str, sae_b: str, *, documents: Ints, settings: MatchSettings
) -> Ints:
    """Return the one-to-one matches on some documents that clear both nulls, (pairs, 2).

    Raises
    ------
    BadInput
        If there are fewer than two.
    """
    table = match_documents(folder, sae_a, sae_b, documents=documents, settings=settings)
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
            f"{sae_a} and {sae_b} have no counterparts to be found: on a third of the documents, "
            f"{np.count_nonzero(clear)} one-to-one matches clear both nulls (q of {SIGNIFICANT} or less). "
            "Ingest more text, or allow more --draws."
        )
    return np.column_stack(ends if sae_a < sae_b else ends[::-1])
