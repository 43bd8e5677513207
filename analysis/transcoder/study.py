"""Study of affine maps between sites: select models and sites, then fit, score and store maps."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.transcoder.accumulate import bytes_needed
from analysis.transcoder.conclusion import conclusion
from analysis.transcoder.model_maps import MapTask, ModelMaps, bytes_to_solve
from analysis.transcoder.settings import TranscoderSettings
from analysis.transcoder.subjects import MappedModel, subjects
from atlas.disk.folder import Folder
from atlas.disk.parts import Part
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext
from ingest.forward.site_vectors import EMBEDDING
from ingest.model.identity import unchecked
from ingest.model.language_model import LanguageModel
from ingest.model.sites import parse_hook
from ingest.text.atlas_corpus import beginning, own_corpus
from ingest.text.corpus import Corpus
from ingest.torch_study import TorchStudy

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
class TranscoderStudy(TorchStudy):
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

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """No SAE is named: the tasks are sites of models."""
        return 0

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
            self._maps_of(name, at).task(target)
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
        targets = [task.target for task in tasks if isinstance(task, MapTask)]
        documents = self.documents
        if documents is None:
            documents = np.arange(Corpus.open(at.folder.corpus_file).info.documents)
        few = max(_LEAST * self.settings.folds, len(documents) // _SAMPLE)
        more = _LARGER * few
        if len(documents) < 2 * more:
            return None
        opened = self._open(self._subjects[name], [self.source, *targets])
        self._opened[name] = opened
        # Documents in a row fill batches as all documents do; single ones from all blocks do not.
        start = (len(documents) - more) // 2

        def seconds(number: int, some: Sequence[str]) -> float:
            with TemporaryDirectory(dir=at.scratch) as scratch:
                quiet = TaskContext(at.folder, at.sound, Path(scratch), SILENT)
                maps = replace(
                    self._maps_of(name, quiet), documents=documents[start : start + number]
                )
                return timed(lambda: list(maps.run(opened, some)))

        seconds(few, targets[:1])  # the first call loads kernels
        first, second = seconds(few, targets), seconds(more, targets)
        slope = max(0.0, second - first) / (more - few)
        total = second + slope * (len(documents) - more)
        widths = [opened.site(target).width for target in targets]
        source = opened.site(self.source).width
        size = bytes_needed(
            source, widths, folds=self.settings.folds, at_embedding=self.source == EMBEDDING
        )
        size += bytes_to_solve(source, max(widths), self.settings)
        # All maps of a pass over the text are finished together.
        return [Cost(total, min(size, self.memory)), *(Cost(0.0) for _ in targets[1:])]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker, which opens the models itself."""
        return {**vars(self), "_opened": {}}

    def release(self) -> None:
        """Drop the models that the forecast opened."""
        self._opened.clear()
        super().release()

    def run_group(self, tasks: Sequence[Task], at: TaskContext) -> Iterator[tuple[Task, Found]]:
        """Fit and score the maps of one model."""
        name = tasks[0].group
        by_target = {task.target: task for task in tasks if isinstance(task, MapTask)}
        opened = self._opened.pop(name, None) or self._open(
            self._subjects[name], [self.source, *by_target]
        )
        if warning := unchecked(at.sound, name):
            at.progress.report(warning)
        for target, found in self._maps_of(name, at).run(opened, list(by_target)):
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

    def _maps_of(self, name: str, at: TaskContext) -> ModelMaps:
        return ModelMaps(
            at, self._subjects[name], self.source, self.settings, self.documents, self.memory
        )


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
        raise BadInput(
            "No target was input; pass one with `targets`, such as blocks.1.hook_resid_post."
        )
    for hook in (source, *found):
        parse_hook(hook, model=name, layers=layers)
    if settings.method == "adam" and source in found:
        raise BadInput(
            f"{source} is both source and target, so there is nothing to train. Pass another site in `targets`."
        )
    return list(dict.fromkeys(found))
