"""Marks of each feature: how far its tokens describe it, on documents that did not choose them.

A *description* of a feature is a few token ids: the most frequent ones among its tokens of highest
activation in one half of the documents. It predicts that the feature is active on exactly these
ids. Its score on the other half is the detection score of Paulo et al. (2024), with a list of
tokens instead of a sentence, and without a judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.probe.probe_data import Occurrences

__all__ = ["MARKS", "FeatureTokens", "TextTokens", "described", "marks", "partners"]

Ints: TypeAlias = NDArray[np.int64]

#: The marks, with their meaning.
MARKS: dict[str, str] = {
    "top_share": "share of active tokens that have the most frequent id",
    "entropy": "entropy of the token ids of active tokens",
    "context_dependence": "share of the tokens with the id of an active token on which it is inactive, mean over active tokens",
    "agreement": "overlap of the token ids of top and of middle examples",
    "detection": "balanced accuracy of a description by top token ids, on other documents",
}


@dataclass(frozen=True, eq=False)
class TextTokens:
    """The tokens of a text, in two halves.

    Parameters
    ----------
    type
        int64, (tokens,). Number of the token id of each token, from 0.
    first
        bool, (tokens,). Whether a token is in the half of the documents that chooses descriptions.
    """

    type: Ints
    first: NDArray[np.bool_]

    def counts(self, *, first: bool) -> Ints:
        """Count the tokens of each id in one half."""
        side = self.first if first else ~self.first
        return np.bincount(self.type[side], minlength=self.types)

    @property
    def types(self) -> int:
        """Number of token ids."""
        return int(self.type.max(initial=-1)) + 1


@dataclass(frozen=True, eq=False)
class FeatureTokens:
    """What describes a feature.

    Parameters
    ----------
    description
        int64. Token ids of the description.
    top, middle
        int64, (examples,). Token ids of the examples of highest and of middle activation, over
        the complete text.
    """

    description: Ints
    top: Ints
    middle: Ints


def described(
    active: Occurrences, text: TextTokens, *, features: Ints, examples: int, words: int, seed: int
) -> list[FeatureTokens]:
    """Describe each feature by its tokens.

    Top examples are the tokens of highest activation; ties go to the earlier token. Middle
    examples are sampled without replacement from the middle fifth of the active tokens, ordered
    by activation. Both have the same number of tokens.

    Parameters
    ----------
    active
        The tokens on which the features are active.
    text
        The tokens of the text.
    features
        int64, (features,). Index of each feature, so that its sample does not depend on the others.
    examples
        Number of examples of each sort; fewer if the middle fifth has fewer tokens.
    words
        Most token ids in a description. Ids of equal count are ordered by their highest
        activation.
    seed
        Seed of the middle examples.
    """
    found = []
    for feature, (token, value) in zip(
        features.tolist(), _features(active, len(features)), strict=True
    ):
        order = np.lexsort((token, -value))
        ids = text.type[token[order]]
        in_first = ids[text.first[token[order]]][:examples]
        fifth = order[2 * len(order) // 5 : -(-3 * len(order) // 5)]
        number = min(examples, len(fifth))
        rng = np.random.default_rng([seed, 5, feature])
        middle = text.type[token[rng.choice(fifth, number, replace=False)]]
        found.append(FeatureTokens(_most_frequent(in_first, words), ids[:number], middle))
    return found


def partners(active_tokens: Ints) -> Ints:
    """Return for each feature another one of similar frequency: the next more frequent one.

    The most frequent feature gets the least frequent of the last eight, and a single feature
    itself.

    Parameters
    ----------
    active_tokens
        int64, (features,).
    """
    order = np.argsort(active_tokens, kind="stable")
    partner = np.empty(len(order), dtype=np.int64)
    partner[order] = np.concatenate([order[1:], order[-8:][:1]]) if len(order) else order
    return partner


def marks(
    active: Occurrences,
    text: TextTokens,
    own: Sequence[FeatureTokens],
    *,
    others: Sequence[FeatureTokens],
) -> dict[str, NDArray[Any]]:
    """Return the marks of each feature.

    Parameters
    ----------
    active
        The tokens on which the features are active.
    text
        The tokens of the text.
    own
        The description of each feature.
    others
        The description of another feature for each, as the control.

    Returns
    -------
    columns
        (features,) each: ``active_tokens``; ``positives``, active tokens of the second half;
        the marks of ``MARKS`` (entropy in bits); and ``agreement_control`` and
        ``detection_control``, with the middle examples and the description of the other feature.
        ``context_dependence`` is 1 minus the mean, over active tokens of the second half, of the
        share of tokens of the same id on which the feature is active in the first half; an id
        that is not in the first half has the share of all tokens. NaN where a half has no active
        or no inactive token.
    """
    before, after = text.counts(first=True), text.counts(first=False)
    rows = []
    for number, (token, _) in enumerate(_features(active, len(own))):
        ids, in_first = text.type[token], text.first[token]
        counts = np.bincount(ids, minlength=text.types)
        on = np.bincount(ids[~in_first], minlength=text.types)
        fitted = counts - on
        share = counts[counts > 0] / max(1, len(token))
        mine, other = own[number], others[number]
        rows.append(
            {
                "active_tokens": len(token),
                "positives": int(on.sum()),
                "top_share": share.max() if len(share) else np.nan,
                "entropy": float(-(share * np.log2(share)).sum()) + 0.0 if len(share) else np.nan,
                "context_dependence": _context_dependence(fitted, on, before),
                "agreement": _overlap(mine.top, mine.middle),
                "agreement_control": _overlap(mine.top, other.middle),
                "detection": _detection(mine.description, on, after),
                "detection_control": _detection(other.description, on, after),
            }
        )
    names = list(rows[0]) if rows else []
    return {name: np.array([row[name] for row in rows]) for name in names}


def _features(active: Occurrences, number: int) -> "list[tuple[Ints, NDArray[np.float32]]]":
    """Return the tokens and activations of each feature."""
    ends = np.searchsorted(active.feature, np.arange(number + 1))
    slices = [slice(*pair) for pair in pairwise(ends)]
    return [(active.token[one], active.value[one]) for one in slices]


def _most_frequent(ids: Ints, words: int) -> Ints:
    """Return the most frequent ids; those of equal count in the order of their first occurrence."""
    unique, first, counts = np.unique(ids, return_index=True, return_counts=True)
    return unique[np.lexsort((first, -counts))][:words]


def _context_dependence(fitted: Ints, on: Ints, tokens: Ints) -> float:
    """Return 1 minus the mean share of active tokens of an id, over active tokens of the second half."""
    if not on.sum() or not tokens.sum():
        return float("nan")
    base = fitted.sum() / tokens.sum()
    share = np.where(tokens > 0, fitted / np.maximum(tokens, 1), base)
    return float(1 - (share * on).sum() / on.sum())


def _overlap(one: Ints, other: Ints) -> float:
    """Return the overlap of two samples of ids: Σ min of their shares; NaN if one is empty."""
    if not len(one) or not len(other):
        return float("nan")
    size = max(one.max(), other.max()) + 1
    shares = [np.bincount(ids, minlength=size) / len(ids) for ids in (one, other)]
    return float(np.minimum(*shares).sum())


def _detection(description: Ints, on: Ints, tokens: Ints) -> float:
    """Return the balanced accuracy of predicting activity on exactly the ids of a description."""
    positives, negatives = on.sum(), (tokens - on).sum()
    if not positives or not negatives:
        return float("nan")
    recall = on[description].sum() / positives
    alarms = (tokens - on)[description].sum() / negatives
    return float((recall + 1 - alarms) / 2)
