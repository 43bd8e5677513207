"""The study of affine maps between sites: which models and sites, how maps are fitted, scored and stored."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.transcoder.accumulate import Measured, bytes_needed, measure, wide_device
from analysis.transcoder.activation_stream import Counts, Text
from analysis.transcoder.adam import Data, adam
from analysis.transcoder.affine import Affine
from analysis.transcoder.conclusion import conclusion
from analysis.transcoder.fold_maps import Maps, closed_form
from analysis.transcoder.intervals import GROUPS, Held, intervals
from analysis.transcoder.moments import joined
from analysis.transcoder.scores import Limits, scores
from analysis.transcoder.settings import TranscoderSettings
from analysis.transcoder.solve import Spectra
from analysis.transcoder.subjects import Subject, subjects
from analysis.transcoder.token_means import TokenSums
from atlas.atomic_files import discard
from atlas.errors import BadInput, OutOfRoom
from atlas.folder import DESCRIBED, Folder
from atlas.parts import Part
from atlas.progress import SILENT, Progress
from atlas.results import Result, Results
from atlas.schema import arrow_schema
from atlas.settings import settings_of
from atlas.study import Found, Study, Task, Workplace, run_study
from atlas.temp_storage import check_room
from ingest.forward.site_vectors import EMBEDDING
from ingest.model.identity import unchecked
from ingest.model.language_model import LanguageModel
from ingest.model.site_tables import site_tables
from ingest.model.sites import parse_hook
from ingest.text.atlas_corpus import beginning, own_corpus
from ingest.text.corpus import Corpus

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ingest.text.atlas_corpus import Text as OwnText

    _Given: TypeAlias = str | Path | PreTrainedModel | LanguageModel

__all__ = ["ALL", "VERSION", "TranscoderStudy", "map_sites"]

#: Raised when the same text would give other numbers, or more of them.
VERSION = 2

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
    model: "_Given | list[_Given] | None" = None,
    tokenizer: object | None = None,
    device: str = "auto",
    memory: int = 2 * 2**30,
    replace: bool = False,
    progress: Progress = SILENT,
) -> Results:
    """Fit affine maps from one site of a model to others, over the text of an atlas.

    The model is run once for all targets, and once more for intervals; activations are
    never stored whole (with Adam they are, in files that are removed at the end).

    Parameters
    ----------
    atlas
        The folder of the atlas; a new one is begun if there is none and a text is given.
    models
        Names of models of the atlas: those that its SAEs read, and those that were mapped
        before; if None those given with ``model``, else all.
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
        If the atlas has no model or SAE of a name, or the model no such site.
    Missing
        If the model is not available.
    Mismatch
        If a model is another one than the atlas has by that name.
    BadInput
        If there are too few documents, or nothing to map.
    BadActivations
        If the model gives NaN or Inf, or Adam diverges.
    OutOfRoom
        If moments do not fit into memory, or files on the disk.
    """
    given = [] if model is None else model if isinstance(model, list) else [model]
    study = TranscoderStudy(
        settings, models, text=text, tokens=tokens, source=source, targets=targets, like=like,
        documents=documents, models_given=given, tokenizer=tokenizer, device=device, memory=memory,
    )  # fmt: skip
    return run_study(study, atlas, replace=replace, progress=progress)


@dataclass(eq=False)
class TranscoderStudy(Study):
    """Fit affine maps from one site of a model to others.

    Parameters
    ----------
    settings
        How maps are fitted and scored.
    models
        Names of models of the atlas; if None those given, else all.
    text, tokens
        The text, and the number of tokens of it, as the tokenizer of the first model counts
        them (the first of ``models``, else of ``models_given``); the text of the atlas if
        None.
    source
        TransformerLens name of the site that is mapped from.
    targets
        Sites that are mapped to, or ``"all"``: ``hook_resid_post`` of every block.
    like
        An SAE of the atlas: text is laid out as it was for this one. By default the
        first, by name, that reads the model; where none does, the first of the atlas,
        contexts no longer than the model takes.
    documents
        Numbers of the documents to fit and score on; all if None.
    models_given, tokenizer
        Models by name, folder, ``"NAME=FOLDER"`` or in memory. One whose weights and
        tokenizer are those of a model of the atlas is that model; others are mapped beside
        it, also if no SAE reads them. The atlas opens its own from their stored sources.
    device
        Where the model is run and maps are trained.
    memory
        Bytes that moments and what is solved with them may take; less means more runs of
        the model, and sums by token id in a file.
    """

    kind: ClassVar[str] = "transcoder"
    version: ClassVar[int] = VERSION

    settings: TranscoderSettings
    models: Sequence[str] | None = None
    _: KW_ONLY
    text: Any = None
    tokens: int | None = None
    source: str = EMBEDDING
    targets: Sequence[str] = (ALL,)
    like: str | None = None
    documents: NDArray[np.int64] | None = None
    models_given: Sequence[Any] = ()
    tokenizer: object | None = None
    device: str = "auto"
    memory: int = 2 * 2**30
    _subjects: dict[str, Subject] = field(default_factory=dict, init=False)

    @contextmanager
    def opening(self, path: Path) -> Iterator[Folder]:
        """Open the atlas, or begin one if a text is given."""
        if self.text is None:
            Folder.open(path)  # so that none is begun
        with beginning(path) as folder:
            yield folder

    def tasks(self, at: Workplace, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each target of each model."""
        # Models, sites and SAEs are looked up, and missing ones reported, before a text is read.
        found = subjects(
            at.sound, self.models, self.models_given, like=self.like, tokenizer=self.tokenizer,
            progress=at.progress,
        )  # fmt: skip
        hooks = [_hooks(self.source, self.targets, one, self.settings) for one in found]
        counting = None
        if self.text is not None and self.tokens:
            counting = self._open(found[0], [EMBEDDING]).tokenizer
        own_corpus(
            at.folder, self.text, tokens=self.tokens, tokenizer=counting,
            model=found[0].model["name"], progress=at.progress,
        )  # fmt: skip
        self._subjects = {one.model["name"]: one for one in found}
        return [
            self._work(name, at).task(target)
            for name, targets in zip(self._subjects, hooks, strict=True)
            for target in targets
        ]

    def is_current(self, part: Part, task: Task) -> bool:
        """Return whether a part is what the task would compute, of a model of the same weights."""
        weights = self._subjects[task.group].model["weights"]
        stored = part.manifest.sources["model"]["weights"]
        return bool(stored == weights) and super().is_current(part, task)

    def run_group(self, tasks: Sequence[Task], at: Workplace) -> Iterator[tuple[Task, Found]]:
        """Fit and score the maps of one model."""
        name = tasks[0].group
        by_target = {task.target: task for task in tasks if isinstance(task, _MapTask)}
        opened = self._open(self._subjects[name], [self.source, *by_target])
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
            self.kind, part.manifest.name, summary, verdict=[conclusion(summary)],
            tables=(part.manifest.tables, part.table),
        )  # fmt: skip

    def _open(self, subject: Subject, hooks: Sequence[str]) -> LanguageModel:
        return subject.open(hooks=hooks, tokenizer=self.tokenizer, device=self.device)

    def _work(self, name: str, at: Workplace) -> "_Work":
        return _Work(
            at, self._subjects[name], self.source, self.settings, self.documents, self.memory
        )


@dataclass(frozen=True)
class _MapTask(Task):
    """A map: the task of a study of maps, and its target."""

    target: str = ""


def _hooks(
    source: str, targets: Sequence[str], subject: Subject, settings: TranscoderSettings
) -> list[str]:
    name, layers = subject.model["name"], subject.model["layers"]
    every = [f"blocks.{i}.hook_resid_post" for i in range(layers)]
    found = [
        hook
        for target in targets
        for hook in ([h for h in every if h != source] if target == ALL else [target])
    ]
    if not found:
        raise BadInput("No target was named; name one with --to, such as blocks.1.hook_resid_post.")
    for hook in (source, *found):
        parse_hook(hook, model=name, layers=layers)
    if settings.method == "adam" and source in found:
        raise BadInput(
            f"{source} is both source and target, so there is nothing to train; name another --to."
        )
    return list(dict.fromkeys(found))


@dataclass(eq=False)
class _Work:
    """The maps from one source of one model."""

    at: Workplace
    subject: Subject
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
            self.part_name(target), (), self.settings, recorded=self.said(),
            omitted=tuple(one.name for one in settings_of(TranscoderSettings)),
            group=self.model_name, target=target,
        )  # fmt: skip

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

    def said(self) -> dict[str, Any]:
        """Return the settings as a manifest holds them."""
        own = {name: getattr(self.settings, name) for name in _OF_METHOD[self.settings.method]}
        own = {k: list(v) if isinstance(v, tuple) else v for k, v in own.items()}
        some = None if self.documents is None else _documents(self.documents)
        layout = asdict(self.subject.contexts) | {"batch_tokens": self.subject.batch_tokens}
        return own | layout | {"documents": some}

    def origin(self) -> dict[str, Any]:
        """Return the sources as a manifest holds them."""
        names = ("name", "source", "revision", "weights", "tokenizer")
        assert self.folder.corpus is not None
        return {
            "model": {n: self.subject.model[n] for n in names}
            | {"parameters": list(self.parameters)},
            "corpus": {"id": self.corpus_id, "source": self.folder.corpus["source"]},
        }

    def run(self, model: LanguageModel, targets: Sequence[str]) -> Iterator[tuple[str, Found]]:
        """Yield the maps to some targets, as many from one run of the model as memory allows."""
        self.parameters = model.parameters([self.source, *targets])
        text = Text(
            Corpus.open(self.folder.corpus_file), model, contexts=self.subject.contexts,
            batch_tokens=self.subject.batch_tokens, documents=self.documents,
            folds=self.settings.folds, seed=self.settings.seed,
        )  # fmt: skip
        counts = text.count()
        together = self._together(model, targets, counts)
        into = self.at.scratch
        self._check_disk(model, together, counts, into)
        for group in together:
            with TemporaryDirectory(dir=into) as files:
                yield from self._run(text, group, counts, Path(files))

    def _run(
        self, text: Text, group: "_Group", counts: Counts, into: Path
    ) -> Iterator[tuple[str, Found]]:
        """Yield the maps of one group of targets."""
        measured = measure(
            text, self.source, group.targets, counts=counts, progress=self.progress,
            scratch=into if group.in_file else None,
        )  # fmt: skip
        done = {target: self._scored(measured, target, maps)
                for target, maps in self._maps(text, measured, group.targets, into)}  # fmt: skip
        found = intervals(
            text, measured, {t: each.held for t, each in done.items()},
            draws=self.settings.draws, seed=self.settings.seed, progress=self.progress,
        )  # fmt: skip
        for target, each in done.items():
            yield target, self._found(text.model, target, each, found[target])
            discard(self._checkpoints(target))

    def _scored(self, measured: Measured, target: str, maps: Maps) -> "_Scored":
        """Score the maps to a target, and return what is needed of them from then on."""
        said, by_dimension = scores(measured, target, maps)
        affine = Affine.of(
            maps.whole.line, source=f"{self.model_name}/{self.source}", target=f"{self.model_name}/{target}",
        )  # fmt: skip
        dimensions = pa.table({k: pa.array(v.cpu().numpy()) for k, v in by_dimension.items()})
        return _Scored(affine, said, dimensions, [Held.of(each) for each in maps.held_out])

    def _maps(
        self, text: Text, measured: Measured, targets: Sequence[str], into: Path
    ) -> Iterator[tuple[str, Maps]]:
        """Yield the maps to each target; those of one target are held at a time."""
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
        self, text: Text, measured: Measured, targets: Sequence[str], into: Path
    ) -> Iterator[tuple[str, Maps]]:
        hooks = list(dict.fromkeys([self.source, *targets]))
        kept = text.scratch(hooks, into, counts=measured.counts, progress=self.progress)
        device = text.model.device
        fitted = range(2, self.settings.folds)
        rank = Spectra(lambda f: measured.text(targets[0], f)).of(fitted).rank
        mean = joined([measured.text(targets[0], f) for f in fitted]).x
        for target in targets:
            checkpoints = self._checkpoints(target)
            checkpoints.mkdir(parents=True, exist_ok=True)
            yield target, adam(
                Data(kept.read[self.source], kept.read[target]), kept.slot, settings=self.settings,
                device=device, wide=wide_device(device), checkpoints=checkpoints, mean=mean,
                rank=rank, title=f"{self.model_name}: {target}", progress=self.progress,
            )  # fmt: skip

    def _checkpoints(self, target: str) -> Path:
        """Return where an unfinished training lies; another setting, text or model has another place."""
        core = repr((self.part_name(target), sorted(self.said().items(), key=str), self.origin()))
        return self.folder.cache / f"adam-{hashlib.sha256(core.encode()).hexdigest()[:12]}"

    def _check_disk(
        self, model: LanguageModel, together: "Sequence[_Group]", counts: Counts, into: Path
    ) -> None:
        """Make sure that what is kept in files has room, before the model is run; say what it is.

        Raises
        ------
        OutOfRoom
            If the disk has none.
        """
        total, adams = int(counts.count.sum()), self.settings.method == "adam"
        most, sums = 0, 0
        for group in together:
            hooks = dict.fromkeys([self.source, *group.targets])
            activations = adams * 4 * total * sum(model.site(hook).width for hook in hooks)
            sums = max(sums, group.in_file * group.sums)
            most = max(most, activations + group.in_file * group.sums)
        what = "The activations and sums by token id" if adams else "The sums by token id"
        todo = "name fewer sites at once" + (", or take --method closed-form" if adams else "")
        check_room(into, most, what=what, todo=todo)
        if sums:
            self.progress.report(
                f"The sums by token id take {sums / 2**30:.1f} GiB, more than --memory leaves for them; they "
                "are kept in a file."
            )
        if adams:
            self.progress.report(
                f"The activations of {total:,} tokens take {most / 2**30:.1f} GiB of disk while maps are trained. "
                "If that is cut short, the same command goes on after the last whole epoch."
            )

    def _together(
        self, model: LanguageModel, targets: Sequence[str], counts: Counts
    ) -> "list[_Group]":
        """Divide the targets into as many looks at the text as memory asks for.

        Raises
        ------
        OutOfRoom
            If not even one fits.
        """
        source, folds = model.site(self.source).width, self.settings.folds
        widths = {target: model.site(target).width for target in targets}

        def needed(some: Sequence[str]) -> int:
            """Return what is held but for the sums by token id, which may lie in a file."""
            each = [widths[t] for t in some]
            moments = bytes_needed(source, each, folds=folds, at_embedding=self.source == EMBEDDING)
            return moments + _solving(source, max(each), self.settings) + _held(source, each, folds)

        groups: list[list[str]] = [[]]
        for target in targets:
            if needed([target]) > self.memory:
                raise OutOfRoom(
                    f"Moments of {self.source} and {target} in {folds} folds take "
                    f"{needed([target]) / 2**30:.1f} GiB, and {self.memory / 2**30:.1f} GiB were given: raise "
                    "--memory, take fewer --folds, or give one --penalty."
                )
            if groups[-1] and needed([*groups[-1], target]) > self.memory:
                groups.append([])
            groups[-1].append(target)
        if len(groups) > 1:
            self.progress.report(
                f"Moments of {len(targets)} sites take more than --memory; the text is read {len(groups)} times."
            )
        found = []
        for some in groups:
            sums = TokenSums.bytes_needed(len(counts.keys), sum(widths[t] for t in some))
            found.append(_Group(tuple(some), sums, in_file=needed(some) + sums > self.memory))
        return found

    def _found(self, model: LanguageModel, target: str, scored: "_Scored", limits: Limits) -> Found:
        edge = dict(scored.said) | {
            "source": scored.affine.source, "target": scored.affine.target,
            "run": self.run_name, "method": self.settings.method, "corpus": self.corpus_id,
        }  # fmt: skip
        for name, interval in (
            ("r2", limits.map), ("token_r2", limits.token), ("token_difference", limits.difference),
        ):  # fmt: skip
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
    """Targets that one look at the text serves, bytes of their sums by token id, and where these lie."""

    targets: tuple[str, ...]
    sums: int
    in_file: bool


@dataclass(frozen=True, eq=False)
class _Scored:
    """What is kept of a target's maps: the one that is written, what is said of them, and those that are held out."""

    affine: Affine
    said: Mapping[str, object]
    dimensions: pa.Table
    held: Sequence[Held]


def _solving(source: int, target: int, settings: TranscoderSettings) -> int:
    """Return the bytes that maps to one target take while they are fitted and scored.

    With the closed form these are, in float64: the spectra of the source on all choices of
    folds, moments with BOS, the maps, and what a decomposition and a score need.
    """
    folds = settings.folds
    if settings.method == "adam":  # a map, its best, and Adam's two; one spectrum, and scores
        return 8 * (6 * source * source + 8 * source * target)
    pairs = folds * (folds - 1) // 2 if len(settings.penalties) > 1 else 0
    spectra, maps = pairs + 2 * (folds + 1), 2 * (folds + 1)
    return 8 * source * ((spectra + folds + 6) * source + (maps + folds + 4) * target)


def _held(source: int, targets: Sequence[int], folds: int) -> int:
    """Return the bytes that stay of the maps to all targets of a look: float32, and sums by group."""
    return sum(targets) * (4 * (folds + 1) * source + 8 * GROUPS)


def _documents(documents: NDArray[np.int64]) -> str:
    """Return a name for a choice of documents."""
    chosen = np.unique(documents)
    digest = hashlib.sha256(chosen.astype("<i8").tobytes()).hexdigest()[:8]
    return f"documents={len(chosen)}-{digest}"


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=arrow_schema(name, "transcoder"))
