"""Compare the arms of an SAE on each concept of a set of words, and collect the tables."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.concepts import tables
from analysis.concepts.settings import ConceptSettings
from analysis.concepts.units.observations import group_means
from analysis.concepts.units.separation import Separation
from analysis.concepts.words.encoding import SaeActivations
from analysis.concepts.words.files import Concept, WordSet
from analysis.concepts.worth.arms import Arm, sae_arms
from analysis.concepts.worth.evaluate import (
    ArmScores,
    FurtherProbe,
    Question,
    further_probes,
    score_arm,
    test_units,
)
from atlas.amounts import counted, listed
from atlas.progress import Progress
from atlas.schema import arrow_schema
from atlas.studies.study import Found

__all__ = ["FEW", "ConceptWork"]

Ints: TypeAlias = NDArray[np.int64]
Row: TypeAlias = dict[str, Any]

FEW = 20
"""Words of a class below which the power of the tests is reported."""

_TESTED = ("random",)
_COMPLETE = ("features", "layer")
_UNEQUAL = 4


@dataclass(frozen=True, eq=False)
class ConceptWork:
    """The words of one run of a model, and the concepts that they label.

    Parameters
    ----------
    words, settings
        The words and the settings.
    items
        int64, (contexts,). The word of each context that has tokens.
    tokens
        int64, (contexts,). Tokens of the word in that context.
    progress
        Reports words and concepts that cannot be used.
    skipped
        Concepts that cannot be tested, with the reason; filled at the start.
    scored
        Scores of arms that several SAEs share; filled by ``found``.
    """

    words: WordSet
    settings: ConceptSettings
    items: Ints
    tokens: Ints
    progress: Progress
    skipped: list[Row] = field(default_factory=list)
    scored: "dict[tuple[str, str, str], _Scored]" = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = sorted(set(range(len(self.words.items))) - set(self.items.tolist()))
        if missing:
            some = listed([repr(self.words.items[i].word[:40]) for i in missing], 5)
            why = "absent from the text" if self.settings.in_corpus else "without a token"
            self.progress.report(f"Excluded {counted(len(missing), 'word')} {why}: {some}.")
        self.skipped.extend(self._usable_messages())

    @property
    def groups(self) -> Ints:
        """The group of each context that is never split; int64, (contexts,)."""
        names = [
            (item.family or item.group) if self.settings.split_by == "family" else item.group
            for item in self.words.items
        ]
        _, numbers = np.unique(names, return_inverse=True)
        return np.asarray(numbers, dtype=np.int64)[self.items]

    def questions(self) -> Iterator[tuple[Concept, Question]]:
        """Yield the concepts that can be tested, with their splits."""
        groups = self.groups
        for concept in self.words.concepts:
            labels = self.words.labels_of(concept)[self.items]
            if self._too_few(labels, groups) is None:
                yield concept, Question.of(labels, self.items, groups, settings=self.settings)

    def _too_few(self, labels: NDArray[np.bool_], groups: Ints) -> str | None:
        counts = [len(np.unique(groups[chosen])) for chosen in (labels, ~labels)]
        if min(counts) < 2:
            return (
                f"it has {counted(counts[0], 'positive group')} and {counted(counts[1], 'negative group')} of words; "
                "cross-validation needs 2 of each"
            )
        return None

    def _usable_messages(self) -> Iterator[Row]:
        groups = self.groups
        for concept in self.words.concepts:
            labels = self.words.labels_of(concept)[self.items]
            reason = self._too_few(labels, groups)
            if reason is not None:
                self.progress.report(f"{concept.name} is skipped: {reason}.")
                yield {"concept": concept.name, "reason": reason}
                continue
            positive, negative = (len(np.unique(self.items[c])) for c in (labels, ~labels))
            if min(positive, negative) < FEW:
                self.progress.report(
                    f"{concept.name} has {positive} positive and {negative} negative words; with fewer than {FEW} "
                    "of a class, only large differences can be found. The table `arms` has the smallest one."
                )
            elif max(positive, negative) > _UNEQUAL * min(positive, negative):
                self.progress.report(
                    f"{concept.name} has {positive} positive and {negative} negative words; probes weigh both "
                    "classes equally, and the rarer one limits the power."
                )

    def found(
        self,
        sae: str,
        activations: SaeActivations,
        raw: Mapping[str, NDArray[Any]],
        *,
        role: str | None = None,
        site: str | None = None,
    ) -> Found:
        """Compare the arms of one SAE.

        Parameters
        ----------
        sae
            Its name.
        activations
            Its activations on the contexts.
        raw
            By arm, activations of further sites.
        role
            Role of the SAE, as people read it; None if it is not recorded.
        site
            The site that is the layer; None if the layer is not a site of the model.
        """
        how = self.settings
        arms = list(sae_arms(activations, raw, subsets=how.subsets, seed=how.seed))
        questions = list(self.questions())
        collected = _Collected(self, sae)
        title = f"{sae}: {self.words.name}"
        total = len(questions) * len(arms)
        with self.progress.stage(title, total=total, unit="arms") as stage:
            for concept, question in questions:
                layer: ArmScores | None = None
                for arm in arms:
                    scored = self._scored(concept, question, arm, shared=("layer", *raw))
                    layer = layer or scored.scores
                    collected.add(concept, question, arm, scored=scored, layer=layer)
                    stage.advance(1)
                collected.end(concept)
        return Found(
            collected.tables(), sources={"contexts": len(self.items), "role": role, "site": site}
        )

    def _scored(
        self, concept: Concept, question: Question, arm: Arm, *, shared: Sequence[str]
    ) -> "_Scored":
        """Score an arm; arms of the model are scored once for all SAEs at one site."""
        if arm.name not in shared:
            return _score(question, arm, complete=arm.name in _COMPLETE)
        values = np.ascontiguousarray(arm.live.values)
        key = (concept.name, arm.name, hashlib.sha256(values.tobytes()).hexdigest())
        if key not in self.scored:
            self.scored[key] = _score(question, arm, complete=True)
        return self.scored[key]


@dataclass(frozen=True, eq=False)
class _Scored:
    """Scores of an arm for one concept; tests are None for arms whose units are not tested."""

    scores: ArmScores
    tests: Separation | None
    probes: list[FurtherProbe]


def _score(question: Question, arm: Arm, *, complete: bool) -> _Scored:
    return _Scored(
        score_arm(arm, question, complete=complete),
        test_units(arm, question) if complete or arm.name in _TESTED else None,
        further_probes(arm, question) if arm.name in _COMPLETE else [],
    )


class _Collected:
    """The rows of the tables of one SAE."""

    def __init__(self, work: ConceptWork, sae: str) -> None:
        self._work, self._sae = work, sae
        self._rows: dict[str, list[Row]] = {
            name: []
            for name in ("arms", "curve", "splits", "probes", "p_values", "SEPARATES", "RETAINS")
        }
        self._units: list[pa.Table] = []

    def add(
        self,
        concept: Concept,
        question: Question,
        arm: Arm,
        *,
        scored: _Scored,
        layer: ArmScores,
    ) -> None:
        """Add the rows of an arm."""
        scores, tests = scored.scores, scored.tests
        rows, splits = self._rows, question.splits
        level = self._work.settings.level
        _, labels = group_means(
            np.zeros((len(question.labels), 0)), question.groups, question.labels
        )
        counts = int(labels.sum()), int((~labels).sum())
        rows["arms"].append(
            tables.arm_row(
                concept,
                arm,
                scores,
                tests=tests,
                layer=layer,
                splits=splits,
                counts=counts,
                level=level,
            )
        )
        rows["curve"] += tables.curve_rows(concept, arm, scores, layer=layer, splits=splits)
        rows["splits"] += tables.split_rows(concept, arm, scores, layer=layer, splits=splits)
        rows["probes"] += [
            tables.probe_row(concept, arm, probe, ridge=scores, splits=splits)
            for probe in scored.probes
        ]
        if tests is not None:
            rows["p_values"] += tables.p_value_rows(concept, arm, tests)
            self._units.append(tables.unit_rows(concept, arm, tests=tests, scores=scores))
        if arm.name == "features" and tests is not None:
            rows["SEPARATES"] += tables.separates_rows(
                self._sae,
                self._work.words,
                concept,
                arm=arm,
                tests=tests,
                scores=scores,
                labels=question.labels,
                level=level,
            )

    def end(self, concept: Concept) -> None:
        """Add the edge of the SAE, from the rows of its arms."""
        own = {row["arm"]: row for row in self._rows["arms"] if row["concept"] == concept.name}
        self._rows["RETAINS"].append(tables.retains_row(self._sae, self._work.words, own))

    def tables(self) -> list[tuple[str, pa.Table]]:
        """Return all tables."""
        schemas = {
            "arms": tables.ARMS,
            "curve": tables.CURVE,
            "splits": tables.SPLITS,
            "probes": tables.PROBES,
            "p_values": tables.P_VALUES,
            "SEPARATES": arrow_schema("SEPARATES", "concepts"),
            "RETAINS": arrow_schema("RETAINS", "concepts"),
        }
        found = [
            (name, pa.Table.from_pylist(self._rows[name], schema=schema))
            for name, schema in schemas.items()
        ]
        units = pa.concat_tables([tables.UNITS.empty_table(), *self._units])
        skipped = pa.schema([("concept", pa.string()), ("reason", pa.string())])
        return [
            ("Concept", tables.concept_table(self._work.words)),
            *found,
            ("units", units),
            ("words", self._word_table()),
            ("skipped", pa.Table.from_pylist(self._work.skipped, schema=skipped)),
        ]

    def _word_table(self) -> pa.Table:
        work = self._work
        count = len(work.words.items)
        contexts = np.bincount(work.items, minlength=count)
        total = np.bincount(work.items, weights=work.tokens, minlength=count)
        return pa.Table.from_pylist(
            [
                {
                    "text": item.text,
                    "word": item.word,
                    "labels": list(item.labels),
                    "group": item.group,
                    "family": item.family,
                    "excluded": None if contexts[i] else "no token was read",
                    "contexts": int(contexts[i]),
                    "tokens": round(float(total[i]) / contexts[i]) if contexts[i] else 0,
                }
                for i, item in enumerate(work.words.items)
            ],
            schema=tables.WORDS,
        )
