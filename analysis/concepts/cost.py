"""The cost of a study of concepts, from arms of random numbers with few splits and draws."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.concepts.settings import ConceptSettings
from analysis.concepts.units.observations import live_columns
from analysis.concepts.words.files import WordSet
from analysis.concepts.worth.arms import Arm
from analysis.concepts.worth.evaluate import Question, further_probes, score_arm, test_units
from atlas.studies.forecast import timed

__all__ = ["FEW_CONTEXTS", "ArmCosts", "arm_costs"]

FEW_CONTEXTS = 1024
"""Contexts of words up to which probes are fitted in one thread."""

_REPEATS, _DRAWS, _PERMUTATIONS = 3, 5, 99
"""Repetitions, permutations for probes, and permutations for tests of the sample."""

_L0 = 64
"""Features per token that are assumed if the SAE has no fixed number."""


@dataclass(frozen=True)
class ArmCosts:
    """Seconds for one concept.

    Parameters
    ----------
    of_site
        Of the arms that SAEs of one site share: the layer and the further sites.
    of_sae
        Of the arms of one SAE.
    """

    of_site: float
    of_sae: float


def arm_costs(words: WordSet, settings: ConceptSettings, row: Mapping[str, Any]) -> ArmCosts:
    """Return the seconds for one concept, measured on random numbers.

    Parameters
    ----------
    words, settings
        Of the study. One context for each word is assumed.
    row
        The row of the SAE. Half of the features that could be active on all words count as live.
    """
    narrow = int(row["d_in"])
    live = min(int(row["d_sae"]), len(words.items) * int(row["k"] or _L0))
    wide = max(narrow, live // 2)
    few = replace(
        settings,
        repeats=min(settings.repeats, _REPEATS),
        probe_draws=min(settings.probe_draws, _DRAWS),
        draws=min(settings.draws, _PERMUTATIONS),
    )
    question = _question(words, few)
    layer, features = (_random_arm(len(words.items), units) for units in (narrow, wide))
    score_arm(_random_arm(len(words.items), 2), question, complete=True)  # what is loaded once
    plain, every = _share(settings, few, complete=False), _share(settings, few, complete=True)

    def seconds(arm: Arm, *, complete: bool) -> float:
        scored = timed(lambda: score_arm(arm, question, complete=complete))
        return scored * (every if complete else plain)

    def tested(arm: Arm) -> float:
        return timed(lambda: test_units(arm, question)) * settings.draws / few.draws

    def probed(arm: Arm) -> float:
        return timed(lambda: further_probes(arm, question)) * every if settings.probe else 0.0

    of_layer = seconds(layer, complete=True) + tested(layer)
    tests = tested(features)
    subsets = settings.subsets if narrow < wide else 0
    return ArmCosts(
        of_site=of_layer * (1 + len(settings.raw)) + probed(layer),
        of_sae=seconds(features, complete=True)
        + seconds(features, complete=False)
        + 2 * tests
        + probed(features)
        + seconds(layer, complete=False) * (2 + subsets),
    )


def _share(settings: ConceptSettings, few: ConceptSettings, *, complete: bool) -> float:
    """Return how many times the fits of a sample the study needs; permuted labels have one repetition."""

    def fits(how: ConceptSettings) -> float:
        return how.repeats + (how.probe_draws / 2 if complete else 0.0)

    return fits(settings) / fits(few)


def _question(words: WordSet, settings: ConceptSettings) -> Question:
    count = len(words.items)
    items = np.arange(count)
    # Two classes in turn, of words that are groups of their own: any split has both.
    return Question.of(items % 2 == 0, items, items, settings=settings)


def _random_arm(rows: int, units: int) -> Arm:
    return Arm("random", live_columns(np.random.default_rng(0).standard_normal((rows, units))))
