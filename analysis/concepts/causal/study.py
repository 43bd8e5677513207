"""The causal check as a study: one part for each SAE and set of words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from analysis.concepts.causal.measure import TestedWords, ablation_effects, fit_later
from analysis.concepts.causal.predictions import changed_predictions, neutral_sentences
from analysis.concepts.causal.settings import AblationSettings, word_settings
from analysis.concepts.causal.tables import (
    MEASURED,
    SUMMARY,
    add_q,
    measured_rows,
    summary_row,
    verdict_of,
)
from analysis.concepts.causal.word_runs import WordRuns, read_word_runs
from analysis.concepts.probing.splits import grouped_splits
from analysis.concepts.settings import ConceptSettings
from analysis.concepts.units.observations import live_columns
from analysis.concepts.words.contexts import WordContext, word_contexts
from analysis.concepts.words.files import WordSet, list_names, read_words
from atlas.amounts import counted
from atlas.disk.parts import Part
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.floors import role_shown
from atlas.studies.forecast import Cost
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext, selected_saes
from ingest.device_timing import timed_on
from ingest.model.sites import depth
from ingest.model.upper_blocks import UpperBlocks
from ingest.sae.complete_model import reopen_complete_model
from ingest.sae.record import SaeRecord, open_sae_record, reopen_sae
from ingest.text.corpus import Corpus, Document
from ingest.torch_study import TorchStudy

if TYPE_CHECKING:
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["ConceptAblation", "ablate_concepts"]

MOST = 8000
"""Most contexts of all sets of words."""


@dataclass(frozen=True)
class ConceptAblation(TorchStudy):
    """Ablate the best features of concepts, and compare what later probes lose.

    Parameters
    ----------
    settings
        Numbers of features and of sets.
    how
        Contexts, folds and the seed, as in the study of concepts.
    words
        The labelled words.
    others
        Further words, whose concepts are measured too.
    opened, model, tokenizer, device
        SAEs and the model, if they are in memory.
    """

    kind: ClassVar[str] = "concept_ablation"
    command: ClassVar[str] = "concepts --ablate"
    version: ClassVar[int] = 3
    part_names: ClassVar[str] = "`set+sae`"
    tables: ClassVar[Mapping[str, str]] = {
        "measured": "the AUC of the probe of each concept before and after an ablation",
        "summary": "each concept and number of ablated features, with controls",
    }

    settings: AblationSettings
    how: ConceptSettings
    words: WordSet
    others: tuple[WordSet, ...] = ()
    opened: "tuple[Autoencoder, ...]" = ()
    model: Any = None
    tokenizer: Any = None
    device: str = "auto"

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE; for transcoders only if they are named."""
        names = selected_saes(at, saes, ("sae",), what="An ablation of concepts", one_site=True)
        if not names:
            raise BadInput("This atlas has no SAE; `atlas ingest` adds one.")
        return [self._task(name) for name in names]

    def _task(self, name: str) -> Task:
        return Task(
            f"{self.words.name}+{name}",
            (name,),
            self.settings,
            made_from=(f"sae/{name}",),
            recorded={
                "words": self.words.name,
                "words_hash": self.words.hash,
                "others": [one.name for one in self.others],
                "others_hash": [one.hash for one in self.others],
                **word_settings(self.how),
            },
        )

    def neutral_sentences(self, at: TaskContext) -> list[WordContext]:
        """Return sentences of the text of the atlas without a word of the set."""
        tokens = self.settings.neutral_tokens
        if not tokens:
            return []
        words = [item.word.strip() for item in self.words.items]
        corpus = Corpus.open(at.folder.corpus_file)
        return neutral_sentences(corpus, words, tokens=tokens, seed=self.how.seed)

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one SAE, from an ablation of frequent features in one split."""
        opened = _Opened.of(self, task, at)
        work = opened.words[0] if opened.words else None
        if work is None or not work.labels:
            return Cost(0.0)
        every = np.concatenate([one.rows[one.splits.test[0]] for one in opened.words])
        live = live_columns(opened.runs.codes())
        frequent = live.units[np.argsort(-(live.values > 0).sum(axis=0), kind="stable")]
        middle = frequent[len(frequent) // 4 :][: max(self.settings.ablated)]
        if not len(middle):
            return Cost(0.0)
        device = opened.runs.read.device
        once = timed_on(device, lambda: list(opened.runs.ablated(every, [middle] * 3))) / 3
        clean = opened.runs.clean()[work.rows]
        fits = timed_on(device, lambda: fit_later(work, clean, seed=0))
        each = 1 + self.settings.random_sets + self.settings.direction_sets
        sets = each * len(self.settings.ablated)
        seconds = len(work.labels) * len(work.splits) * sets * once
        tokens = len(work.rows) + self.settings.neutral_tokens
        predicted = (1 + 2 * self.settings.direction_sets) * len(self.settings.ablated)
        seconds += len(work.labels) * predicted * once * tokens / max(1, len(every))
        return Cost(seconds + fits * len(opened.words), bytes=opened.runs.bytes)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Measure one SAE."""
        opened = _Opened.of(self, task, at)
        sae, concepts = task.saes[0], opened.own_concepts
        measured: list[dict[str, Any]] = []
        summary: list[dict[str, Any]] = []
        clean = opened.runs.clean()
        probes = [
            probe
            for words in opened.words
            for probe in fit_later(words, clean[words.rows], seed=self.how.seed)
        ]
        codes = live_columns(opened.runs.codes())
        title = f"{sae}: ablating features of {self.words.name}"
        total = sum(len(opened.words[0].splits) for _ in concepts)
        with at.progress.stage(title, total=total, unit="splits") as stage:
            for concept in concepts:
                own = opened.words[0]
                found = ablation_effects(
                    opened.runs,
                    concept,
                    own,
                    features=codes.take(own.rows),
                    probes=probes,
                    settings=self.settings,
                    seed=self.how.seed,
                    stage=stage,
                )
                changed = dict(
                    changed_predictions(
                        opened.runs,
                        opened.neutral,
                        own,
                        labels=own.labels[concept],
                        features=codes.take(own.rows),
                        settings=self.settings,
                        seed=self.how.seed,
                    )
                )
                done = set()
                for effects in found:
                    done.add(effects.k)
                    measured += measured_rows(concept, effects, probes)
                    row = summary_row(concept, effects, probes)
                    summary.append(row | changed.get(effects.k, {}))
                for k in sorted(set(self.settings.ablated) - done):
                    at.progress.report(
                        f"{sae}, {concept}: {counted(k, 'feature')} cannot be compared, because fewer than {k} other "
                        "features are active on these words."
                    )
        add_q(summary)
        return Found(
            [
                ("measured", pa.Table.from_pylist(measured, schema=MEASURED)),
                ("summary", pa.Table.from_pylist(summary, schema=SUMMARY)),
            ],
            sources={"site": opened.runs.hook, "same": opened.same, "role": opened.role},
        )

    def result(self, part: Part) -> Result:
        """Return the effects of the largest number of features, and all rows as tables."""
        rows = part.table("summary").to_pylist()
        measured = part.table("measured").to_pylist()
        sae, sources = part.manifest.saes[0], part.manifest.sources
        return Result(
            self.kind,
            part.manifest.name,
            {
                "sae": sae,
                "role": sources.get("role"),
                "words": part.manifest.settings["words"],
                "site": sources["site"],
                "concepts": list(dict.fromkeys(row["concept"] for row in rows)),
            },
            verdict=verdict_of(sae, sources["site"], rows, measured=measured, same=sources["same"])
            or [f"{sae}: no concept has enough groups of words, or too few features are live."],
            tables=(part.manifest.tables, part.table),
        )


@dataclass(frozen=True, eq=False)
class _Opened:
    """The runs of an SAE on words and neutral text, and the sets that have enough words, the own first."""

    runs: WordRuns
    neutral: WordRuns | None
    words: list[TestedWords]
    own_concepts: list[str]
    same: bool
    role: str | None

    @classmethod
    def of(cls, study: ConceptAblation, task: Task, at: TaskContext) -> "_Opened":
        record = open_sae_record(at.sound, task.saes[0])
        sae = reopen_sae(record.row, study.opened)
        site, same = _later_site(record)
        model, complete = reopen_complete_model(
            record,
            study.model,
            hooks=sae.info.hooks,
            tokenizer=study.tokenizer,
            device=study.device,
        )
        sae.to(model.device)
        sets = (study.words, *study.others)
        contexts, of_set = _contexts(sets, study.how, at)
        read = partial(
            read_word_runs,
            UpperBlocks(complete, sae.info.hook),
            sae,
            tokenizer=model.tokenizer,
            layout=record.contexts,
            batch_tokens=record.batch_tokens,
            hook=site,
            pool=study.how.pool,
        )
        runs = read(contexts=[context for _, context in contexts])
        sentences = study.neutral_sentences(at)
        neutral = read(contexts=sentences) if sentences else None
        words, own = [], []
        for number, one in enumerate(sets):
            inside = of_set[runs.contexts] == number
            items = np.array([contexts[c][1].item for c in runs.contexts[inside]], dtype=np.int64)
            tested = _tested(one, np.flatnonzero(inside), items, study)
            if number == 0:
                own = list(tested.labels)
                for concept in one.concepts:
                    if concept.name not in tested.labels:
                        at.progress.report(
                            f"{concept.name}: features are not ablated, because a class has fewer groups of words than "
                            f"the {study.how.folds} folds."
                        )
            if tested.labels or number == 0:
                words.append(tested)
        return cls(runs, neutral, words, own, same, role_shown(record.row))


def _later_site(record: SaeRecord) -> tuple[str, bool]:
    """Return the output of the last block, and whether the SAE reads it."""
    layers = int(record.model["layers"])
    site = f"blocks.{layers - 1}.hook_resid_post"
    own, last = (
        depth(hook, model=str(record.model["name"]), layers=layers)
        for hook in (str(record.row["hook"]), site)
    )
    return site, own >= last


def _contexts(
    sets: Sequence[WordSet], how: ConceptSettings, at: TaskContext
) -> tuple[list[tuple[int, WordContext]], Any]:
    """Return the contexts of all sets, each with the number of its set, and these numbers."""
    found: list[tuple[int, WordContext]] = []
    for number, one in enumerate(sets):
        found += [(number, c) for c in word_contexts(one.items, how, _documents(at))]
    if len(found) > MOST:
        raise BadInput(
            f"The sets of words have {len(found):,} words and contexts; expected at most {MOST:,} to ablate features. "
            "Use fewer carriers, a lower `in_corpus`, or fewer `others`."
        )
    return found, np.array([number for number, _ in found], dtype=np.int64)


def _documents(at: TaskContext) -> Iterator[Document]:
    corpus = Corpus.open(at.folder.corpus_file)
    for number in range(len(corpus)):
        yield from corpus.block(number)


def _tested(one: WordSet, rows: Any, items: Any, study: ConceptAblation) -> TestedWords:
    """Return the words of a set with splits that all its concepts share."""
    how = study.how
    names = [
        (item.family or item.group) if how.split_by == "family" else item.group
        for item in one.items
    ]
    _, numbers = np.unique(names, return_inverse=True)
    groups = np.asarray(numbers, dtype=np.int64)[items]
    labels = {concept.name: one.labels_of(concept)[items] for concept in one.concepts}
    usable = {
        name: own
        for name, own in labels.items()
        if min(len(np.unique(groups[c])) for c in (own, ~own)) >= how.folds
    }
    splits = grouped_splits(
        ["|".join(one.items[i].labels) for i in items],
        groups,
        folds=how.folds,
        repeats=study.settings.ablation_repeats,
        seed=how.seed,
    )
    return TestedWords(rows, groups, splits, usable)


def ablate_concepts(
    atlas: str | Path,
    words: str | Path | WordSet,
    saes: Sequence[str] | None = None,
    *,
    settings: AblationSettings = AblationSettings(),  # noqa: B008 - frozen
    how: ConceptSettings = ConceptSettings(),  # noqa: B008 - frozen
    opened: "Sequence[Autoencoder]" = (),
    model: Any = None,
    tokenizer: Any = None,
    device: str = "auto",
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Ablate the best features of concepts, and compare what probes at the last block lose.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    words
        A file of labelled words, the name of a list of this package, or words that were read.
    saes
        Names of SAEs, or ``"all"``. Default: the first.
    settings
        Numbers of features and of sets, and the other concepts.
    how
        Contexts, folds and the seed, as in ``study_concepts``.
    opened
        SAEs that are already open.
    model, tokenizer, device
        The complete model, by name, folder or in memory; by default that of the ingest.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each SAE. Its table ``summary`` has a row for each concept and number of features:
    the fall of the AUROC, and its difference from random features of equal frequency, from random
    directions of equal norm and from the fall of other concepts. ``measured`` has a row for each measured concept.

    Raises
    ------
    BadInput
        If a file cannot be used, or there are too many contexts.
    UnknownName
        If the atlas has no SAE of a name.
    Mismatch
        If a model or an SAE differs from that of the ingest.

    Examples
    --------
    >>> from analysis import AblationSettings, ConceptSettings, ablate_concepts
    >>> few = AblationSettings(
    ...     ablated=(1,), random_sets=2, direction_sets=2, others=("kinds",), neutral_tokens=0, ablation_repeats=1
    ... )
    >>> (result,) = ablate_concepts(
    ...     "demo.atlas", "gender", ["tiny-a-l1-s0"], settings=few, how=ConceptSettings(folds=2)
    ... )
    >>> result.summary["concepts"]
    ['gender/female']
    """
    known = words if isinstance(words, WordSet) else read_words(words)
    study = ConceptAblation(
        settings,
        how,
        known,
        other_words(known, settings.others),
        tuple(opened),
        model,
        tokenizer,
        device,
    )
    return run_study(
        study, atlas, saes, replace=replace, workers=workers, ray=ray, progress=progress
    )


def other_words(words: WordSet, others: Sequence[str] | None) -> tuple[WordSet, ...]:
    """Return the further sets of words; by default the other lists of this package.

    A list of the same name or with the same words is excluded.
    """
    names = list_names() if others is None else others
    read = [read_words(name) for name in names]
    return tuple(one for one in read if one.hash != words.hash and one.name != words.name)
