"""The study of concepts, which stores one part per SAE and set of words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from analysis.concepts.compare import ConceptWork
from analysis.concepts.cost import FEW_CONTEXTS, arm_costs
from analysis.concepts.settings import ConceptSettings
from analysis.concepts.verdict import verdict_of
from analysis.concepts.words.contexts import word_contexts
from analysis.concepts.words.encoding import Encoded, encode_words
from analysis.concepts.words.files import WordSet, read_words
from analysis.similarity.raw import raw_hook
from analysis.statistics.threads import one_thread_if_small
from atlas.amounts import counted
from atlas.disk.parts import Part
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.floors import role_shown
from atlas.studies.forecast import Cost
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext, selected_saes
from ingest.forward.site_vectors import EMBEDDING
from ingest.sae.record import SaeRecord, open_sae_record, reopen_model, reopen_sae
from ingest.text.corpus import Corpus, Document
from ingest.torch_study import TorchStudy

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["ConceptStudy", "study_concepts"]

MOST = 4000
"""Most contexts; probes need an eigendecomposition of this size."""


@dataclass(frozen=True)
class ConceptStudy(TorchStudy):
    """Compare the features of SAEs with the layer they read, on labelled words.

    Parameters
    ----------
    settings
        Contexts, splits and draws.
    words
        The labelled words.
    opened, models
        SAEs and models that are already open.
    """

    kind: ClassVar[str] = "concepts"
    version: ClassVar[int] = 3
    part_names: ClassVar[str] = "`set+sae`"
    tables: ClassVar[Mapping[str, str]] = {
        "arms": "scores of each arm",
        "curve": "scores by number of units",
        "probes": "scores of the probes",
        "splits": "AUROC of each split",
        "units": "tests of the units that vary on the words",
        "p_values": "the p of these tests",
        "words": "the labelled words",
        "skipped": "concepts that could not be tested",
    }

    device = "auto"

    settings: ConceptSettings
    words: WordSet
    opened: "tuple[Autoencoder, ...]" = ()
    models: "tuple[LanguageModel, ...]" = ()

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE; SAEs of one model and layout share a run of it."""
        names = selected_saes(at, saes, ("sae",), what="A study of concepts", one_site=True)
        return [self._task(open_sae_record(at.sound, name)) for name in names]

    def _task(self, record: SaeRecord) -> Task:
        layout = record.contexts
        return Task(
            f"{self.words.name}+{record.name}",
            (record.name,),
            self.settings,
            made_from=(f"sae/{record.name}",),
            recorded={"words": self.words.name, "words_hash": self.words.hash},
            group=f"{record.model['name']} {layout.context_size} {layout.prepend_bos}",
        )

    def is_current(self, part: Part, task: Task) -> bool:
        """Return whether a sound part is what the task would compute; it may have more arms.

        The arms of further sites and the subsets of features do not change the other arms.
        """
        stored, how = part.manifest.settings, self.settings
        raw, subsets = stored.get("raw") or (), stored.get("subsets") or 0
        if set(how.raw) <= set(raw) and how.subsets <= subsets:
            how = replace(how, raw=tuple(raw), subsets=subsets)
        return super().is_current(part, replace(task, settings=how))

    def check(self, tasks: Sequence[Task], at: TaskContext) -> None:
        """Check the carriers, and report what was excluded from the words."""
        word_contexts(self.words.items[:1], self.settings, ())
        if tasks:
            for message in self.words.messages:
                at.progress.report(message)

    def forecast_group(self, tasks: Sequence[Task], at: TaskContext) -> list[Cost]:
        """Return the cost of each task, from arms of random numbers with few splits and draws.

        Arms of the model are scored once for all SAEs of a site.
        """
        records = [open_sae_record(at.sound, task.saes[0]) for task in tasks]
        # The libraries that read an SAE load for seconds.
        reopen_sae(records[0].row, self.opened)
        costs: list[Cost] = []
        sites: set[str] = set()
        for record in records:
            with one_thread_if_small(len(self.words.items), most=FEW_CONTEXTS):
                cost = arm_costs(self.words, self.settings, record.row)
            hook = record.row["hook"]
            seconds = cost.of_sae + (0.0 if hook in sites else cost.of_site)
            sites.add(hook)
            size = 8 * len(self.words.items) * int(record.row["d_sae"]) * 4
            costs.append(Cost(len(self.words.concepts) * seconds, bytes=size))
        return costs

    def run_group(self, tasks: Sequence[Task], at: TaskContext) -> Iterator[tuple[Task, Found]]:
        """Run the model once on the words, then compare each SAE with its layer."""
        records = [open_sae_record(at.sound, task.saes[0]) for task in tasks]
        saes = [reopen_sae(record.row, self.opened) for record in records]
        for sae in saes:
            sae.require_one_site(
                "`atlas concepts`, which compares each layer with its reconstruction,"
            )
        raw = [self._raw_hooks(record, at.progress) for record in records]
        hooks = list(dict.fromkeys(hook for of in raw for hook in of.values()))
        needed = [*hooks, *(hook for sae in saes for hook in sae.info.hooks)]
        opened = next((m for m in self.models if m.name == records[0].model["name"]), None)
        model = reopen_model(records[0], opened, hooks=needed)
        contexts = word_contexts(self.words.items, self.settings, self._documents(at))
        if len(contexts) > MOST:
            raise BadInput(
                f"{self.words.name} has {len(contexts):,} words and contexts; expected at most {MOST:,}. Use fewer "
                "carriers, or a lower `in_corpus`."
            )
        read = counted(len({context.item for context in contexts}), "word")
        if self.settings.carrier or self.settings.in_corpus:
            read += f" in {counted(len(contexts), 'context')}"
        with at.progress.stage(f"{model.name}: reading {read}"):
            found = encode_words(
                model,
                contexts,
                layout=records[0].contexts,
                batch_tokens=records[0].batch_tokens,
                saes=saes,
                hooks=hooks,
                pool=self.settings.pool,
            )
        items = np.array([context.item for context in contexts], dtype=np.int64)[found.rows]
        work = ConceptWork(self.words, self.settings, items, found.tokens, at.progress)
        for task, record, named in zip(tasks, records, raw, strict=True):
            with one_thread_if_small(len(items), most=FEW_CONTEXTS):
                one = work.found(
                    record.name,
                    found.saes[record.name],
                    _sites(found, named),
                    role=role_shown(record.row),
                    # The layer of a residual SAE is the site minus a prediction of its own.
                    site=None if record.row.get("less") else str(record.row["hook"]),
                )
            yield task, one

    def _raw_hooks(self, record: SaeRecord, progress: Progress) -> dict[str, str]:
        """Return by arm the sites that are read without an SAE."""
        own = str(record.row["hook"])
        found: dict[str, str] = {}
        for name in self.settings.raw:
            try:
                hook = EMBEDDING if name == "embedding" else raw_hook(own, name)
            except BadInput:
                progress.report(
                    f"{record.name} reads {own}, which has no {name}; that arm is skipped."
                )
                continue
            if hook != own or record.row.get("less"):
                found[name] = hook
        return found

    def _documents(self, at: TaskContext) -> Iterator[Document]:
        """Yield the documents of the atlas."""
        corpus = Corpus.open(at.folder.corpus_file)
        for number in range(len(corpus)):
            yield from corpus.block(number)

    def result(self, part: Part) -> Result:
        """Return the numbers of the features and the layer for each concept."""
        arms = part.table("arms").to_pylist()
        sae = part.manifest.saes[0]
        own = [row for row in arms if row["arm"] == "features"]
        summary: dict[str, Any] = {
            "sae": sae,
            "role": part.manifest.sources.get("role"),
            "site": part.manifest.sources.get("site"),
            "words": part.manifest.settings["words"],
            "concepts": [row["concept"] for row in own],
        }
        if own:
            summary |= _means(own, arms)
        skipped = part.table("skipped").to_pylist()
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=verdict_of(sae, arms, skipped=skipped, probes=part.table("probes").to_pylist()),
            tables=(part.manifest.tables, part.table),
        )


def _means(own: Sequence[Mapping[str, Any]], arms: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return means over concepts; of one concept they are its numbers."""

    def mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
        values = [row[name] for row in rows if row[name] is not None]
        return float(np.mean(values)) if values else None

    layer = [row for row in arms if row["arm"] == "layer"]
    random = [row for row in arms if row["arm"] == "random"]
    return {
        "varying": own[0]["varying"],
        "features": own[0]["units"],
        "separating": mean(own, "max_t_units"),
        "layer_separating": mean(layer, "max_t_units"),
        "auc": mean(own, "auc"),
        "layer_auc": mean(layer, "auc"),
        "permuted_auc": mean(own, "permuted_auc"),
        "retained": mean(own, "retained"),
        "k90": mean(own, "k90"),
        "effective": mean(own, "effective"),
        "area": mean(own, "area"),
        "random_area": mean(random, "area"),
    }


def _sites(found: Encoded, named: Mapping[str, str]) -> dict[str, Any]:
    return {name: found.sites[hook] for name, hook in named.items()}


def study_concepts(
    atlas: str | Path,
    words: "str | Path | WordSet",
    saes: Sequence[str] | None = None,
    *,
    settings: ConceptSettings = ConceptSettings(),  # noqa: B008 - frozen
    opened: "Sequence[Autoencoder]" = (),
    models: "Sequence[LanguageModel]" = (),
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Compare the features of SAEs with the layers they read, on labelled words.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    words
        A file of labelled words, the name of a list of this package, or words that were read with
        ``analysis.concepts.words.files.read_words``.
    saes
        Names of SAEs, or ``"all"``. Default: the first.
    settings
        Contexts, splits and draws.
    opened, models
        SAEs and models that are already open.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each SAE. Its table ``arms`` has a row for each concept and arm, ``curve`` one for
    each k, ``units`` one for each live unit of the tested arms, ``probes`` one for each further
    probe, ``words`` one for each word.

    Raises
    ------
    BadInput
        If the file cannot be used.
    UnknownName
        If the atlas has no SAE of a name.
    Mismatch
        If a model or an SAE differs from that of the ingest.

    Examples
    --------
    >>> from analysis import ConceptSettings, study_concepts
    >>> settings = ConceptSettings(repeats=1, draws=19, probe_draws=19, subsets=1)
    >>> (result,) = study_concepts("demo.atlas", "gender", ["tiny-a-l1-s0"], settings=settings)
    >>> len(result.to_pandas("arms")) > 0
    True
    """
    known = words if isinstance(words, WordSet) else read_words(words)
    return run_study(
        ConceptStudy(settings, known, tuple(opened), tuple(models)),
        atlas,
        saes,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=progress,
    )
