"""Study of affine maps between sites: select models and sites, then fit, score and store maps."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.transcoder.accumulate import MapMoments, bytes_needed, measure, wide_device
from analysis.transcoder.activation_stream import SlotCounts, TextStream
from analysis.transcoder.adam import Data, adam
from analysis.transcoder.affine import Affine, Maps, closed_form
from analysis.transcoder.conclusion import conclusion
from analysis.transcoder.moments import joined
from analysis.transcoder.scores import GROUPS, MapIntervals, ScoringMap, intervals, scores
from analysis.transcoder.settings import TranscoderSettings
from analysis.transcoder.solve import Spectra
from analysis.transcoder.subjects import MappedModel, subjects
from analysis.transcoder.token_means import TokenSums
from atlas.amounts import counted
from atlas.disk.atomic_files import discard
from atlas.disk.folder import DESCRIBED, Folder
from atlas.disk.parts import Part
from atlas.disk.temp_storage import check_space
from atlas.errors import BadInput, OutOfSpace
from atlas.progress import SILENT, Progress
from atlas.schema import arrow_schema
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.settings import settings_of
from atlas.studies.study import Found, Study, Task, TaskContext
from ingest.error_translation import memory_errors
from ingest.forward.site_vectors import EMBEDDING
from ingest.model.identity import unchecked
from ingest.model.language_model import LanguageModel
from ingest.model.site_tables import site_tables
from ingest.model.sites import parse_hook
from ingest.precision import ieee_float32
from ingest.text.atlas_corpus import beginning, own_corpus
from ingest.text.corpus import Corpus

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ingest.text.atlas_corpus import Text as OwnText

    _ModelSource: TypeAlias = str | Path | PreTrainedModel | LanguageModel

__all__ = ["ALL", "VERSION", "TranscoderStudy", "map_sites"]

#: Increased when the same text gives other numbers, or more of them.
VERSION = 2

#: Denominator of the share of documents in the smaller sample of a forecast, its fewest documents
#: for each fold, and the size of the larger sample relative to it.
_SAMPLE, _LEAST, _LARGER = 64, 4, 3

ALL = "all"
"""Stands for the residual stream after every block."""

_OF_METHOD = {
    "closed form": ("method", "folds", "penalties", "seed", "draws"),
    "adam": ("method", "folds", "rates", "batch", "epochs", "patience", "seed", "draws"),
}


def map_sites(
    atlas: str | Path,
    models: Sequence[str] | None = None,
    *,
    text: "OwnText | str | Path | Sequence[str] | None" = None,
    tokens: int | None = None,
    source: str = EMBEDDING,
    targets: Sequence[str] = (ALL,),
    settings: TranscoderSettings = TranscoderSettings(),  # noqa: B008 - frozen
    like: str | None = None,
    documents: NDArray[np.int64] | None = None,
    model: "_ModelSource | list[_ModelSource] | None" = None,
    tokenizer: object | None = None,
    device: str = "auto",
    memory: int = 2 * 2**30,
    replace: bool = False,
    progress: Progress = SILENT,
) -> Results:
    """Fit affine maps from one site of a model to others, over the text of an atlas.

    The model runs once for all targets, and once more for intervals. Activations are stored
    only for Adam, in files that are removed at the end.

    Parameters
    ----------
    atlas
        The folder of the atlas; with a text, a new one is created if it does not exist.
    models
        Names of models of the atlas: those that its SAEs read, and those that were mapped
        before. If None, the models of ``model``, or else all.
    replace
        Compute again what is stored already with these settings.
    progress
        Notified of the work.
    text, tokens, source, targets, settings, like, documents, model, tokenizer, device, memory
        See ``TranscoderStudy``.

    Returns
    -------
    A result for each map: the edge MAPS_TO, and ``source_width``, the dimensions of the
    source.

    Raises
    ------
    UnknownName
        If the atlas has no model or SAE of this name, or the model has no such site.
    Missing
        If the model is not available.
    Mismatch
        If the atlas has another model of the same name.
    BadInput
        If there are too few documents, or nothing to map.
    BadActivations
        If the model outputs NaN or Inf, or Adam diverges.
    OutOfSpace
        If moments do not fit into memory, or files do not fit on the disk.

    Examples
    --------
    >>> from analysis import map_sites
    >>> results = map_sites("demo.atlas", ["tiny-a"], targets=["blocks.1.hook_resid_post"])
    >>> results[0]["r2_weighted"] < 1
    True
    """
    passed = [] if model is None else model if isinstance(model, list) else [model]
    study = TranscoderStudy(
        settings,
        models,
        text=text,
        tokens=tokens,
        source=source,
        targets=targets,
        like=like,
        documents=documents,
        passed_models=passed,
        tokenizer=tokenizer,
        device=device,
        memory=memory,
    )
    return run_study(study, atlas, replace=replace, progress=progress)


@dataclass(eq=False)
class TranscoderStudy(Study):
    """Fit affine maps from one site of a model to others.

    Parameters
    ----------
    settings
        Settings of the fit and the scores.
    models
        Names of models of the atlas; if None, those of ``passed_models``, or else all.
    text, tokens
        The text, and its number of tokens as counted by the tokenizer of the first model
        (the first of ``models``, or else of ``passed_models``); the text of the atlas if None.
    source
        TransformerLens name of the source site.
    targets
        Target sites, or ``"all"``: ``hook_resid_post`` of every block.
    like
        SAE of the atlas whose text layout is used. The default is the first SAE, by name, that
        reads the model. If none does, it is the first of the atlas, with contexts limited to
        the length that the model accepts.
    documents
        Numbers of the documents to fit and score on; all if None.
    passed_models, tokenizer
        Models by name, folder, ``"NAME=FOLDER"`` or in memory. A model with the weights and
        tokenizer of a model of the atlas is that model. Other models are added, even if no
        SAE reads them. The atlas opens its own models from their stored sources.
    device
        Device of the model and of training.
    memory
        Memory limit in bytes for moments and solvers. A lower limit requires more runs of the
        model, and sums by token id in a file.
    """

    kind: ClassVar[str] = "transcoder"
    version: ClassVar[int] = VERSION
    tables: ClassVar[Mapping[str, str]] = {
        "Site": "both ends",
        "OF_MODEL": "the models of both ends",
        "map": "the weights, and the bias as the last row",
        "point": "the mean at the source site, and the value of the map there",
        "model": "the properties of Model",
        "dimensions": "scores of each dimension",
    }

    settings: TranscoderSettings
    models: Sequence[str] | None = None
    _: KW_ONLY
    text: Any = None
    tokens: int | None = None
    source: str = EMBEDDING
    targets: Sequence[str] = (ALL,)
    like: str | None = None
    documents: NDArray[np.int64] | None = None
    passed_models: Sequence[Any] = ()
    tokenizer: object | None = None
    device: str = "auto"
    memory: int = 2 * 2**30
    _subjects: dict[str, MappedModel] = field(default_factory=dict, init=False)
    _opened: dict[str, LanguageModel] = field(default_factory=dict, init=False, repr=False)

    @contextmanager
    def opening(self, path: Path) -> Iterator[Folder]:
        """Open the atlas, or create one if there is a text."""
        if self.text is None:
            Folder.open(path)  # raises an error if there is no atlas
        with beginning(path) as folder:
            yield folder

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each target of each model."""
        # Missing models, sites and SAEs are reported before a text is read.
        found = subjects(
            at.sound,
            self.models,
            self.passed_models,
            like=self.like,
            tokenizer=self.tokenizer,
            progress=at.progress,
        )
        hooks = [_hooks(self.source, self.targets, one, self.settings) for one in found]
        counting = None
        if self.text is not None and self.tokens:
            counting = self._open(found[0], [EMBEDDING]).tokenizer
        own_corpus(
            at.folder,
            self.text,
            tokens=self.tokens,
            tokenizer=counting,
            model=found[0].model["name"],
            progress=at.progress,
        )
        self._subjects = {one.model["name"]: one for one in found}
        return [
            self._work(name, at).task(target)
            for name, targets in zip(self._subjects, hooks, strict=True)
            for target in targets
        ]

    def is_current(self, part: Part, task: Task) -> bool:
        """Return whether a part has the result of the task, for a model of the same weights."""
        weights = self._subjects[task.group].model["weights"]
        stored = part.manifest.sources["model"]["weights"]
        return bool(stored == weights) and super().is_current(part, task)

    def forecast_group(self, tasks: Sequence[Task], at: TaskContext) -> list[Cost] | None:
        """Return the cost of the maps of one model, from maps on two samples of the documents.

        The cost is linear in the number of documents. There is no forecast for fewer documents
        than the samples need.
        """
        name = tasks[0].group
        targets = [task.target for task in tasks if isinstance(task, _MapTask)]
        documents = self.documents
        if documents is None:
            documents = np.arange(Corpus.open(at.folder.corpus_file).info.documents)
        few = max(_LEAST * self.settings.folds, len(documents) // _SAMPLE)
        more = _LARGER * few
        if len(documents) < 2 * more:
            return None
        opened = self._open(self._subjects[name], [self.source, *targets])
        self._opened[name] = opened
        mixed = np.random.default_rng(0).permutation(documents)

        def seconds(number: int, some: Sequence[str]) -> float:
            with TemporaryDirectory(dir=at.scratch) as scratch:
                quiet = TaskContext(at.folder, at.sound, Path(scratch), SILENT)
                work = replace(self._work(name, quiet), documents=np.sort(mixed[:number]))
                return timed(lambda: list(work.run(opened, some)))

        seconds(few, targets[:1])  # the first call loads kernels
        first, second = seconds(few, targets), seconds(more, targets)
        slope = max(0.0, second - first) / (more - few)
        total = second + slope * (len(documents) - more)
        widths = [opened.site(target).width for target in targets]
        source = opened.site(self.source).width
        size = bytes_needed(
            source, widths, folds=self.settings.folds, at_embedding=self.source == EMBEDDING
        )
        size += _solving(source, max(widths), self.settings)
        # All maps of a pass over the text are finished together.
        return [Cost(total, min(size, self.memory)), *(Cost(0.0) for _ in targets[1:])]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker, which opens the models itself."""
        return {**vars(self), "_opened": {}}

    def run_group(self, tasks: Sequence[Task], at: TaskContext) -> Iterator[tuple[Task, Found]]:
        """Fit and score the maps of one model."""
        name = tasks[0].group
        by_target = {task.target: task for task in tasks if isinstance(task, _MapTask)}
        opened = self._opened.pop(name, None) or self._open(
            self._subjects[name], [self.source, *by_target]
        )
        if warning := unchecked(at.sound, name):
            at.progress.report(warning)
        for target, found in self._work(name, at).run(opened, list(by_target)):
            yield by_target[target], found

    def result(self, part: Part) -> Result:
        """Return the edge of a map, and the width of its source."""
        (row,) = part.table("MAPS_TO").to_pylist()
        widths = {site["id"]: site["width"] for site in part.table("Site").to_pylist()}
        summary = dict(row) | {"source_width": widths[row["source"]]}
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=[conclusion(summary)],
            tables=(part.manifest.tables, part.table),
        )

    def _open(self, subject: MappedModel, hooks: Sequence[str]) -> LanguageModel:
        return subject.open(hooks=hooks, tokenizer=self.tokenizer, device=self.device)

    def _work(self, name: str, at: TaskContext) -> "_Work":
        return _Work(
            at, self._subjects[name], self.source, self.settings, self.documents, self.memory
        )


@dataclass(frozen=True)
class _MapTask(Task):
    """A map: the task of a study of maps, and its target."""

    target: str = ""


def _hooks(
    source: str, targets: Sequence[str], subject: MappedModel, settings: TranscoderSettings
) -> list[str]:
    name, layers = subject.model["name"], subject.model["layers"]
    every = [f"blocks.{i}.hook_resid_post" for i in range(layers)]
    found = [
        hook
        for target in targets
        for hook in ([h for h in every if h != source] if target == ALL else [target])
    ]
    if not found:
        raise BadInput("No target was input; pass one with --to, such as blocks.1.hook_resid_post.")
    for hook in (source, *found):
        parse_hook(hook, model=name, layers=layers)
    if settings.method == "adam" and source in found:
        raise BadInput(
            f"{source} is both source and target, so there is nothing to train. Pass another --to."
        )
    return list(dict.fromkeys(found))


@dataclass(eq=False)
class _Work:
    """The maps from one source of one model."""

    at: TaskContext
    subject: MappedModel
    source: str
    settings: TranscoderSettings
    documents: NDArray[np.int64] | None
    memory: int
    parameters: tuple[str, ...] = ()

    @property
    def folder(self) -> Folder:
        return self.at.folder

    @property
    def progress(self) -> Progress:
        return self.at.progress

    def task(self, target: str) -> "_MapTask":
        """Return the task of one target."""
        return _MapTask(
            self.part_name(target),
            (),
            self.settings,
            recorded=self.stored_settings(),
            omitted=tuple(one.name for one in settings_of(TranscoderSettings)),
            group=self.model_name,
            target=target,
        )

    @property
    def model_name(self) -> str:
        return str(self.subject.model["name"])

    @property
    def corpus_id(self) -> str:
        assert self.folder.corpus is not None
        return str(self.folder.corpus["id"])

    @property
    def run_name(self) -> str:
        """The property ``run`` of the edges."""
        some = "" if self.documents is None else f"/{_documents(self.documents)}"
        return f"{self.settings.method}/{self.corpus_id}{some}"

    def part_name(self, target: str) -> str:
        name = f"{self.model_name}@{self.source}@{target}@{self.run_name}"
        return re.sub(r"[^A-Za-z0-9@._=-]", "-", name)

    def stored_settings(self) -> dict[str, Any]:
        """Return the settings in the form of a manifest."""
        own = {name: getattr(self.settings, name) for name in _OF_METHOD[self.settings.method]}
        own = {k: list(v) if isinstance(v, tuple) else v for k, v in own.items()}
        some = None if self.documents is None else _documents(self.documents)
        layout = asdict(self.subject.contexts) | {"batch_tokens": self.subject.batch_tokens}
        return own | layout | {"documents": some}

    def origin(self) -> dict[str, Any]:
        """Return the sources in the form of a manifest."""
        names = ("name", "source", "revision", "weights", "tokenizer")
        assert self.folder.corpus is not None
        return {
            "model": {n: self.subject.model[n] for n in names}
            | {"parameters": list(self.parameters)},
            "corpus": {"id": self.corpus_id, "source": self.folder.corpus["source"]},
        }

    def run(self, model: LanguageModel, targets: Sequence[str]) -> Iterator[tuple[str, Found]]:
        """Yield the maps to all targets, in as few runs of the model as memory allows."""
        self.parameters = model.parameters([self.source, *targets])
        text = TextStream(
            Corpus.open(self.folder.corpus_file),
            model,
            contexts=self.subject.contexts,
            batch_tokens=self.subject.batch_tokens,
            documents=self.documents,
            folds=self.settings.folds,
            seed=self.settings.seed,
        )
        counts = text.count()
        groups = self._groups(model, targets, counts)
        into = self.at.scratch
        self._check_disk(model, groups, counts, into)
        for group in groups:
            with TemporaryDirectory(dir=into) as files:
                yield from self._run(text, group, counts, Path(files))

    def _run(
        self, text: TextStream, group: "_Group", counts: SlotCounts, into: Path
    ) -> Iterator[tuple[str, Found]]:
        """Yield the maps of one group of targets."""
        needed = f"the maps from {self.source} to {counted(len(group.targets), 'site')}"
        with (
            memory_errors(needed, todo="map fewer sites at a time, or use another device"),
            ieee_float32(),
        ):
            measured = measure(
                text,
                self.source,
                group.targets,
                counts=counts,
                progress=self.progress,
                scratch=into if group.in_file else None,
            )
            done = {
                target: self._scored(measured, target, maps)
                for target, maps in self._maps(text, measured, group.targets, into)
            }
            found = intervals(
                text,
                measured,
                {t: each.scoring_maps for t, each in done.items()},
                draws=self.settings.draws,
                seed=self.settings.seed,
                progress=self.progress,
            )
        for target, each in done.items():
            yield target, self._found(text.model, target, each, found[target])
            discard(self._checkpoints(target))

    def _scored(self, measured: MapMoments, target: str, maps: Maps) -> "_Scored":
        """Score the maps to a target, and return the stored map, scores and held-out maps."""
        properties, by_dimension = scores(measured, target, maps)
        affine = Affine.of(
            maps.full.line,
            source=f"{self.model_name}/{self.source}",
            target=f"{self.model_name}/{target}",
        )
        dimensions = pa.table({k: pa.array(v.cpu().numpy()) for k, v in by_dimension.items()})
        return _Scored(
            affine, properties, dimensions, [ScoringMap.of(each) for each in maps.held_out]
        )

    def _maps(
        self, text: TextStream, measured: MapMoments, targets: Sequence[str], into: Path
    ) -> Iterator[tuple[str, Maps]]:
        """Yield the maps to each target; only those of one target are in memory."""
        if self.settings.method == "adam":
            yield from self._trained(text, measured, targets, into)
            return
        first = targets[0]
        without = Spectra(lambda f: measured.text(first, f))
        both = Spectra(lambda f: measured.both(first, f))
        title = f"{self.model_name}: maps from {self.source}"
        with self.progress.stage(title, total=len(targets), unit="sites") as stage:
            for target in targets:
                yield (
                    target,
                    closed_form(
                        measured, target, penalties=self.settings.penalties, text=without, both=both
                    ),
                )
                stage.advance()

    def _trained(
        self, text: TextStream, measured: MapMoments, targets: Sequence[str], into: Path
    ) -> Iterator[tuple[str, Maps]]:
        hooks = list(dict.fromkeys([self.source, *targets]))
        stored = text.scratch(hooks, into, counts=measured.counts, progress=self.progress)
        device = text.model.device
        fitted = range(2, self.settings.folds)
        rank = Spectra(lambda f: measured.text(targets[0], f)).of(fitted).rank
        mean = joined([measured.text(targets[0], f) for f in fitted]).x
        for target in targets:
            checkpoints = self._checkpoints(target)
            checkpoints.mkdir(parents=True, exist_ok=True)
            yield (
                target,
                adam(
                    Data(stored.read[self.source], stored.read[target]),
                    stored.slot,
                    settings=self.settings,
                    device=device,
                    wide=wide_device(device),
                    checkpoints=checkpoints,
                    mean=mean,
                    rank=rank,
                    title=f"{self.model_name}: {target}",
                    progress=self.progress,
                ),
            )

    def _checkpoints(self, target: str) -> Path:
        """Return the folder of checkpoints, which depends on settings, text and model."""
        core = repr(
            (self.part_name(target), sorted(self.stored_settings().items(), key=str), self.origin())
        )
        return self.folder.cache / f"adam-{hashlib.sha256(core.encode()).hexdigest()[:12]}"

    def _check_disk(
        self, model: LanguageModel, groups: "Sequence[_Group]", counts: SlotCounts, into: Path
    ) -> None:
        """Check the free disk space before the model runs, and report the size of files.

        Raises
        ------
        OutOfSpace
            If the disk has too little free space.
        """
        total, adams = int(counts.count.sum()), self.settings.method == "adam"
        most, sums = 0, 0
        for group in groups:
            hooks = dict.fromkeys([self.source, *group.targets])
            activations = adams * 4 * total * sum(model.site(hook).width for hook in hooks)
            sums = max(sums, group.in_file * group.sums)
            most = max(most, activations + group.in_file * group.sums)
        what = "The activations and sums by token id" if adams else "The sums by token id"
        todo = "pass fewer sites at once" + (", or --method closed-form" if adams else "")
        check_space(into, most, what=what, todo=todo)
        if sums:
            self.progress.report(
                f"The sums by token id need {sums / 2**30:.1f} GiB, which exceeds --memory; they are stored in a "
                "file."
            )
        if adams:
            self.progress.report(
                f"The activations of {total:,} tokens need {most / 2**30:.1f} GiB of disk during training. After an "
                "interruption, the same command resumes after the last complete epoch."
            )

    def _groups(
        self, model: LanguageModel, targets: Sequence[str], counts: SlotCounts
    ) -> "list[_Group]":
        """Divide the targets into groups, each for one pass over the text within the memory limit.

        Raises
        ------
        OutOfSpace
            If a single target exceeds the limit.
        """
        source, folds = model.site(self.source).width, self.settings.folds
        widths = {target: model.site(target).width for target in targets}

        def needed(some: Sequence[str]) -> int:
            """Return the bytes in memory, without sums by token id, which may be in a file."""
            each = [widths[t] for t in some]
            moments = bytes_needed(source, each, folds=folds, at_embedding=self.source == EMBEDDING)
            return moments + _solving(source, max(each), self.settings) + _held(source, each, folds)

        groups: list[list[str]] = [[]]
        for target in targets:
            if needed([target]) > self.memory:
                raise OutOfSpace(
                    f"Moments of {self.source} and {target} in {folds} folds need "
                    f"{needed([target]) / 2**30:.1f} GiB, but --memory is {self.memory / 2**30:.1f} GiB. Increase "
                    "--memory, or pass fewer --folds or a single --penalty."
                )
            if groups[-1] and needed([*groups[-1], target]) > self.memory:
                groups.append([])
            groups[-1].append(target)
        if len(groups) > 1:
            self.progress.report(
                f"Moments of {len(targets)} sites exceed --memory; the model runs over the text {len(groups)} times."
            )
        found = []
        for some in groups:
            sums = TokenSums.bytes_needed(len(counts.keys), sum(widths[t] for t in some))
            found.append(_Group(tuple(some), sums, in_file=needed(some) + sums > self.memory))
        return found

    def _found(
        self, model: LanguageModel, target: str, scored: "_Scored", limits: MapIntervals
    ) -> Found:
        edge = dict(scored.properties) | {
            "source": scored.affine.source,
            "target": scored.affine.target,
            "run": self.run_name,
            "method": self.settings.method,
            "corpus": self.corpus_id,
        }
        for name, interval in (
            ("r2", limits.map),
            ("token_r2", limits.token),
            ("token_difference", limits.difference),
        ):
            edge[f"{name}_low"], edge[f"{name}_high"] = interval
        sites = [model.site(hook) for hook in dict.fromkeys([self.source, target])]
        tables = [
            ("MAPS_TO", _table("MAPS_TO", [edge])),
            *site_tables(self.model_name, sites),
            (DESCRIBED, self.subject.table(model)),
            *scored.affine.tables(),
            ("dimensions", scored.dimensions),
        ]
        dtypes = {"model": model.dtype, "moments": "float64", "device": model.device.type}
        return Found(tables, sources=self.origin(), dtypes=dtypes, seed=self.settings.seed)


@dataclass(frozen=True)
class _Group:
    """Targets of one pass over the text, the bytes of their sums, and whether these are in a file."""

    targets: tuple[str, ...]
    sums: int
    in_file: bool


@dataclass(frozen=True, eq=False)
class _Scored:
    """Results for a target: the stored map, its scores, and the held-out maps."""

    affine: Affine
    properties: Mapping[str, object]
    dimensions: pa.Table
    scoring_maps: Sequence[ScoringMap]


def _solving(source: int, target: int, settings: TranscoderSettings) -> int:
    """Return the bytes to fit and score the maps to one target.

    With the closed form, these are in float64: spectra of the source for all sets of folds,
    moments with BOS, the maps, and the workspace of a decomposition and a score.
    """
    folds = settings.folds
    if (
        settings.method == "adam"
    ):  # the map, its best state and Adam's two moments; a spectrum; scores
        return 8 * (6 * source * source + 8 * source * target)
    pairs = folds * (folds - 1) // 2 if len(settings.penalties) > 1 else 0
    spectra, maps = pairs + 2 * (folds + 1), 2 * (folds + 1)
    return 8 * source * ((spectra + folds + 6) * source + (maps + folds + 4) * target)


def _held(source: int, targets: Sequence[int], folds: int) -> int:
    """Return the bytes for the maps to all targets of a pass in float32, and their sums by group."""
    return sum(targets) * (4 * (folds + 1) * source + 8 * GROUPS)


def _documents(documents: NDArray[np.int64]) -> str:
    """Return a name for a selection of documents."""
    chosen = np.unique(documents)
    digest = hashlib.sha256(chosen.astype("<i8").tobytes()).hexdigest()[:8]
    return f"documents={len(chosen)}-{digest}"


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=arrow_schema(name, "transcoder"))
