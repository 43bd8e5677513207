"""Does the ablation of the best features of a concept change predictions in general?

The next token is predicted again without the features: at the tokens of the words, and at tokens of
neutral text, which has no word of the set. Random features and random directions are the controls.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.concepts.causal.measure import TestedWords, equal_frequency, random_directions
from analysis.concepts.causal.settings import AblationSettings
from analysis.concepts.causal.word_runs import WordRuns
from analysis.concepts.probing.sparse import TrainingStatistic, best_units
from analysis.concepts.units.observations import Live
from analysis.concepts.words.contexts import WordContext
from analysis.concepts.words.search import word_pattern
from analysis.statistics.permutation import permutation_p
from ingest.text.corpus import Corpus

__all__ = ["changed_predictions", "first_tokens", "neutral_sentences"]

Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]

_LETTERS = 6  # of a token, at most on average
_LONGEST = 400  # characters of a sentence


def neutral_sentences(
    corpus: Corpus, words: Sequence[str], *, tokens: int, seed: int
) -> list[WordContext]:
    """Return sentences of the text that contain none of some words.

    Parameters
    ----------
    corpus
        The text; its blocks are read in random order.
    words
        The words; upper and lower case are equal.
    tokens
        Number of tokens that are needed. More are returned, if the text has them.
    seed
        Seed of the order of blocks.

    Returns
    -------
    A context for each sentence, all of whose characters are the word.
    """
    pattern = re.compile(word_pattern(words).pattern, re.IGNORECASE)
    found: list[WordContext] = []
    characters = 0
    for block in np.random.default_rng([seed, 9]).permutation(len(corpus)):
        for document in corpus.block(int(block)):
            for sentence in re.split(r"(?<=[.!?])\s+|\n+", document.text):
                text = sentence.strip()[:_LONGEST]
                if text and not pattern.search(text):
                    found.append(WordContext(len(found), text, 0, len(text)))
                    characters += len(text)
            if characters >= _LETTERS * tokens:
                return found
    return found


def first_tokens(runs: WordRuns, most: int) -> Ints:
    """Return the first contexts, until they have ``most`` tokens.

    Parameters
    ----------
    runs
        The runs.
    most
        Number of tokens; the last context may exceed it.
    """
    before = np.searchsorted(runs.owner, np.arange(len(runs.contexts)))
    return np.flatnonzero(before < most).astype(np.int64)


def changed_predictions(
    runs: WordRuns,
    neutral: WordRuns | None,
    words: TestedWords,
    *,
    labels: Bools,
    features: Live,
    settings: AblationSettings,
    seed: int,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield, for each number of features, the change of the predictions and that of the controls.

    Parameters
    ----------
    runs, words
        The runs of all words, and the words of the concept.
    neutral
        Runs of neutral text; None for none.
    labels
        bool, (words,). The concept. The best features are those of all words, since nothing is
        measured on held-out words here.
    features
        Codes of the words.
    settings, seed
        Numbers of features and of sets, and the seed. As many random sets as random directions are
        measured, at most ``random_sets``.

    Yields
    ------
    k, and columns of ``SUMMARY``: means over tokens of KL(model ‖ edited model) in nats.
    """
    every = np.ones((1, len(labels)), np.bool_)
    ranked = best_units(
        TrainingStatistic(features.values).signed_f(labels[None], every), max(settings.ablated)
    )[0]
    counts = np.asarray((features.values > 0).sum(axis=0), dtype=np.int64)
    number = min(settings.random_sets, settings.direction_sets)
    priorities = np.stack(
        [np.random.default_rng([seed, 7, i]).random(len(counts)) for i in range(number)]
    )
    chosen = first_tokens(neutral, settings.neutral_tokens) if neutral is not None else None
    for k in sorted(set(settings.ablated)):
        best = ranked[:k]
        drawn, _ = equal_frequency(best, counts, priorities) if len(best) == k else ([], 0)
        sets = {tuple(sorted(own)): own for own in drawn}
        sets.pop(tuple(sorted(best)), None)
        if not sets:
            continue
        units = [features.units[one] for one in (best, *sets.values())]
        along = [
            random_directions(units[0], runs.read.shape[1], seed=seed, number=i)
            for i in range(settings.direction_sets)
        ]
        row: dict[str, Any] = {}
        for name, of, contexts in (("words", runs, words.rows), ("text", neutral, chosen)):
            if of is None or contexts is None or not len(contexts):
                continue
            own = of.divergences(contexts, units)
            directed = of.divergences(contexts, [units[0]] * len(along), directions=along)
            row |= {
                f"{name}_tokens": int(np.isin(of.owner, contexts).sum()),
                f"{name}_kl": float(own[0]),
                f"random_{name}_kl": float(own[1:].mean()),
                f"direction_{name}_kl": float(directed.mean()),
                f"{name}_kl_p": permutation_p(float(own[0]), own[1:]),
            }
        yield k, row
