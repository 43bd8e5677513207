"""The maps from one source of one model: passes over the text, fits, scores and tables."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.transcoder.accumulate import MapMoments, bytes_needed, measure, wide_device
from analysis.transcoder.activation_stream import SlotCounts, TextStream
from analysis.transcoder.adam import Data, adam
from analysis.transcoder.affine import Affine, Maps, closed_form
from analysis.transcoder.moments import joined
from analysis.transcoder.scores import GROUPS, MapIntervals, ScoringMap, intervals, scores
from analysis.transcoder.settings import TranscoderSettings
from analysis.transcoder.solve import Spectra
from analysis.transcoder.subjects import MappedModel
from analysis.transcoder.token_means import TokenSums
from atlas.amounts import counted
from atlas.disk.atomic_files import discard
from atlas.disk.folder import DESCRIBED, Folder
from atlas.disk.temp_storage import check_space
from atlas.errors import OutOfSpace
from atlas.progress import Progress
from atlas.schema import arrow_schema
from atlas.studies.settings import settings_of
from atlas.studies.study import Found, Task, TaskContext
from ingest.error_translation import memory_errors
from ingest.forward.site_vectors import EMBEDDING
from ingest.model.language_model import LanguageModel
from ingest.model.site_tables import site_tables
from ingest.precision import ieee_float32
from ingest.text.corpus import Corpus

__all__ = ["MapTask", "ModelMaps", "bytes_to_solve"]

_OF_METHOD = {
    "closed form": ("method", "folds", "penalties", "seed", "draws"),
    "adam": ("method", "folds", "rates", "batch", "epochs", "patience", "seed", "draws"),
}


@dataclass(frozen=True)
class MapTask(Task):
    """A map: the task of a study of maps, and its target."""

    target: str = ""


@dataclass(eq=False)
class ModelMaps:
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
        """The folder of the atlas."""
        return self.at.folder

    @property
    def progress(self) -> Progress:
        """Reports progress."""
        return self.at.progress

    def task(self, target: str) -> MapTask:
        """Return the task of one target."""
        return MapTask(
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
        """Name of the model in the atlas."""
        return str(self.subject.model["name"])

    @property
    def corpus_id(self) -> str:
        """Id of the corpus of the atlas."""
        assert self.folder.corpus is not None
        return str(self.folder.corpus["id"])

    @property
    def run_name(self) -> str:
        """The property ``run`` of the edges."""
        some = "" if self.documents is None else f"/{_documents(self.documents)}"
        return f"{self.settings.method}/{self.corpus_id}{some}"

    def part_name(self, target: str) -> str:
        """Return the name of the part of a map."""
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
        todo = "pass fewer sites at once" + (", or `method='closed-form'`" if adams else "")
        check_space(into, most, what=what, todo=todo)
        if sums:
            self.progress.report(
                f"The sums by token id need {sums / 2**30:.1f} GiB, which exceeds `memory`; they are stored in a "
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
            return (
                moments
                + bytes_to_solve(source, max(each), self.settings)
                + _held(source, each, folds)
            )

        groups: list[list[str]] = [[]]
        for target in targets:
            if needed([target]) > self.memory:
                raise OutOfSpace(
                    f"Moments of {self.source} and {target} in {folds} folds need "
                    f"{needed([target]) / 2**30:.1f} GiB, but `memory` is {self.memory / 2**30:.1f} GiB. Increase "
                    "`memory`, or pass fewer `folds` or a single one of `penalties`."
                )
            if groups[-1] and needed([*groups[-1], target]) > self.memory:
                groups.append([])
            groups[-1].append(target)
        if len(groups) > 1:
            self.progress.report(
                f"Moments of {len(targets)} sites exceed `memory`; the model runs over the text {len(groups)} times."
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


def bytes_to_solve(source: int, target: int, settings: TranscoderSettings) -> int:
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
