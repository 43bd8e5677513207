"""Features of a concept: those enriched on its words, chosen and confirmed on separate documents.

A token belongs to a concept if it is the last token of an occurrence of one of its words in the
text. A feature is enriched if it is active there more often than on all other tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import false_discovery_control, hypergeom

from analysis.concepts.words.files import WordSet
from analysis.concepts.words.search import word_pattern
from ingest.codes.store import Block, Tokens
from ingest.text.corpus import Document

__all__ = ["Counts", "Enriched", "Occurrences", "count_blocks", "enriched", "occurrences"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Occurrences of the words of concepts in a text, sorted by document and end.

    Parameters
    ----------
    concepts
        Names of the concepts, ``set/label``.
    document, end
        int64. Document of each occurrence, and the character after its last one.
    concept
        int64. Index of its concept. A word of several concepts has an occurrence for each.
    """

    concepts: tuple[str, ...]
    document: Ints
    end: Ints
    concept: Ints

    def labels(self, tokens: Tokens) -> "sparse.csr_array":
        """Return which tokens end a word of each concept; sparse 0 and 1, (tokens, concepts).

        The last token of a word is the one that covers its last character.
        """
        width = 1 + int(max(tokens.end.max(initial=0), self.end.max(initial=0)))
        stop = tokens.document * width + tokens.end
        wanted = self.document * width + self.end
        token = np.searchsorted(stop, wanted)
        known = token < len(stop)
        inside = np.minimum(token, len(stop) - 1)
        if len(stop):
            known &= tokens.document[inside] == self.document
            known &= tokens.start[inside] < self.end
        cells = token[known], self.concept[known]
        shape = (len(stop), len(self.concepts))
        found = sparse.csr_array(sparse.coo_array((np.ones(known.sum()), cells), shape=shape))
        found.data[:] = 1  # two words may end in one token
        return found


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of one SAE on both halves of the documents.

    Parameters
    ----------
    tokens
        int64, (2,).
    labelled
        int64, (2, concepts). Tokens of each concept.
    active
        int64, (2, features). Tokens on which each feature is active.
    joint
        int64, (2, concepts, features). Tokens of a concept on which a feature is active.
    """

    tokens: Ints
    labelled: Ints
    active: Ints
    joint: Ints


@dataclass(frozen=True, eq=False)
class Enriched:
    """The features of a concept.

    Parameters
    ----------
    features
        int64. Their indices, ascending.
    lift
        float64. Their lift on the half of the documents that did not choose them.
    q
        float64. Their q-value there.
    """

    features: Ints
    lift: Floats
    q: Floats


def occurrences(documents: Iterable[Document], sets: Sequence[WordSet]) -> Occurrences:
    """Find the words of all labels of some sets in a text, as complete words with equal case.

    Parameters
    ----------
    documents
        The text.
    sets
        The labelled words. Each label of a set is a concept.
    """
    names: list[str] = []
    concepts_of: dict[str, list[int]] = {}
    for words in sets:
        for label in sorted({label for item in words.items for label in item.labels}):
            for item in words.items:
                if label in item.labels:
                    concepts_of.setdefault(item.word.strip(), []).append(len(names))
            names.append(f"{words.name}/{label}")
    rows: list[tuple[int, int, int]] = []
    if concepts_of:
        pattern = word_pattern(concepts_of)
        for document in documents:
            rows += [
                (document.number, match.end(), concept)
                for match in pattern.finditer(document.text)
                for concept in dict.fromkeys(concepts_of[match[0]])
            ]
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    table = table[np.lexsort((table[:, 2], table[:, 1], table[:, 0]))]
    return Occurrences(tuple(names), *table.T)


def count_blocks(blocks: Iterable[Block], found: Occurrences, *, d_sae: int, seed: int) -> Counts:
    """Count active features on the tokens of each concept, on both halves of the documents.

    Parameters
    ----------
    blocks
        The codes of an SAE.
    found
        The occurrences of the words.
    d_sae
        Number of features.
    seed
        Seed of the halves. All SAEs of a text have the same halves.
    """
    shape = (2, len(found.concepts), d_sae)
    tokens, labelled = np.zeros(2, dtype=np.int64), np.zeros(shape[:2], dtype=np.int64)
    active, joint = np.zeros((2, d_sae), dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for block in blocks:
        labels = found.labels(block.tokens)
        on = (block.values > 0).astype(np.float64)
        cells = (on, block.indices.astype(np.int64), block.indptr)
        codes = sparse.csr_array(cells, shape=(len(block), d_sae))
        half = _half(block.tokens.document, seed)
        for side in (0, 1):
            rows = np.flatnonzero(half == side)
            own, own_labels = codes[rows], labels[rows]
            tokens[side] += len(rows)
            labelled[side] += np.asarray(own_labels.sum(axis=0), dtype=np.int64)
            active[side] += np.asarray(own.sum(axis=0), dtype=np.int64)
            joint[side] += (own_labels.T @ own).toarray().astype(np.int64)
    return Counts(tokens, labelled, active, joint)


def enriched(counts: Counts, *, lift: float, q: float) -> list[Enriched]:
    """Return the features of each concept.

    A feature is chosen on the first half of the documents, and confirmed on the second, by the
    same two conditions. The first is its lift. The second is the q-value (Benjamini-Hochberg) of
    the hypergeometric test: is it active on more tokens of the concept than of equally many random
    tokens? On the first half q is over all features that are active there. On the second half it
    is over the chosen ones.

    Parameters
    ----------
    counts
        The counts of an SAE.
    lift
        Smallest ratio of the share of active tokens in the concept to that of all other tokens.
    q
        Largest q-value.
    """
    found = []
    for concept in range(counts.joint.shape[1]):
        features = np.arange(counts.joint.shape[2])
        for side in (0, 1):
            k, n = counts.joint[side, concept, features], counts.active[side, features]
            total, marked = counts.tokens[side], counts.labelled[side, concept]
            live = n > 0
            features, k, n = features[live], k[live], n[live]
            p = hypergeom.sf(k - 1, total, marked, n)
            values = false_discovery_control(np.clip(p, 0, 1)) if len(p) else p
            ratio = _lift(k, n, marked=int(marked), total=int(total))
            good = (values <= q) & (ratio >= lift)
            features, ratio, values = features[good], ratio[good], values[good]
        found.append(Enriched(features, ratio, values))
    return found


def _half(document: Ints, seed: int) -> Ints:
    """Return the half of each token's document: 0 or 1, at random for each document number."""
    numbers, which = np.unique(document, return_inverse=True)
    sides = [int(np.random.default_rng([seed, 8, number]).integers(2)) for number in numbers]
    return np.array(sides, dtype=np.int64)[which]


def _lift(k: Ints, n: Ints, *, marked: int, total: int) -> Floats:
    """Return the ratio of the shares of active tokens, inside and outside; inf if none is outside."""
    inside = k / max(marked, 1)
    outside = (n - k) / max(total - marked, 1)
    found = np.full(len(k), np.inf)
    np.divide(inside, outside, out=found, where=outside > 0)
    return np.where(k > 0, found, 0.0)
