"""The study of probes: SAEs with stored codes, sites and runs, and the model that reads the sites."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from atlas.amounts import counted
from atlas.disk.folder import Folder, Sound
from atlas.disk.parts import Part, differ
from atlas.errors import BadInput, Mismatch
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result as StudyResult
from atlas.studies.results import Results
from atlas.studies.runner import run_study
from atlas.studies.settings import read_settings
from atlas.studies.study import Found, Task, TaskContext, selected_saes
from ingest.codes.store import count_rows, stored_shards
from ingest.error_translation import memory_errors
from ingest.forward.site_vectors import EMBEDDING, by_id, by_token
from ingest.model.identity import unchecked
from ingest.model.language_model import LanguageModel
from ingest.model.site_tables import site_tables
from ingest.probe.part_tables import ProbeRun
from ingest.probe.probe_data import ProbeData
from ingest.probe.sample import Sampled, probed_features, sampled, sampled_tokens
from ingest.probe.schedule import CHUNK, TODO, ProbeResult, probe_all, probe_blocks
from ingest.probe.settings import ALL, ProbeSettings
from ingest.probe.site_design import SiteDesign, root_mean_square
from ingest.probe.solver.design import Design
from ingest.sae.record import SaeRecord, open_sae_record, reopen_model
from ingest.text.corpus import Corpus
from ingest.torch_study import TorchStudy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "ALL",
    "VERSION",
    "ProbeStudy",
    "ProbedSae",
    "check_same",
    "open_subject",
    "probe_saes",
    "stored_probes",
]


@dataclass(frozen=True, eq=False)
class ProbedSae(SaeRecord):
    """An SAE to be probed.

    Parameters
    ----------
    shards
        Its codes.
    """

    shards: list[Path]


def open_subject(folder: Folder, sound: Sound, name: str) -> ProbedSae:
    """Open the codes and the record of an SAE for probing.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.
    Missing
        If its codes are not stored.
    BrokenPart
        If its codes have changed since they were written.
    """
    ingested = open_sae_record(sound, name)
    shards = stored_shards(folder, sound, name, what=f"A probe of {name}")
    return ProbedSae(**vars(ingested), shards=shards)


def check_same(subject: ProbedSae, counterpart: ProbedSae, *, where: Path) -> None:
    """Check that an SAE and its model are the same in two atlases.

    Raises
    ------
    Mismatch
        If they differ.
    """
    for what, mine, other in (
        ("weights", subject.row["weights"], counterpart.row["weights"]),
        ("model", subject.model["weights"], counterpart.model["weights"]),
        ("model's parameters", differ(subject.parameters, counterpart.parameters), False),
        ("tokenizer", subject.model["tokenizer"], counterpart.model["tokenizer"]),
        ("contexts", subject.contexts, counterpart.contexts),
    ):
        if mine != other:
            raise Mismatch(
                f"{subject.name} is another SAE in {where} (its {what} differ), so {where} cannot validate its "
                "probes. Ingest the same SAE there, with the same model and `context`."
            )


#: Increased whenever the same codes give different tables.
VERSION = 3


@dataclass(frozen=True, eq=False)
class _ValidationAtlas:
    """A second atlas whose text is used for validation: its folder, its parts, its corpus."""

    folder: Folder
    sound: Sound
    corpus: Corpus


def probe_saes(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    sites: Sequence[str] = (EMBEDDING,),
    settings: ProbeSettings = ProbeSettings(),  # noqa: B008 - frozen
    validate: str | Path | None = None,
    model: "str | Path | PreTrainedModel | LanguageModel | None" = None,
    tokenizer: object | None = None,
    device: str = "auto",
    memory: int = 2 * 2**30,
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Probe sites of a model for the features of SAEs of an atlas, from their stored codes.

    The embedding needs only the model's embedding of the token ids. For other sites, the
    model is run once for all SAEs and sites.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of SAEs, or ``"all"``. Default: the first.
    sites, settings, validate, model, tokenizer, device, memory
        See ``ProbeStudy``.
    replace
        Probe again what is already stored with these settings.
    workers, ray
        See ``atlas.studies.runner.run_study``.
    progress
        Notified of the work.

    Returns
    -------
    A result for each SAE, site and run: the number of probed features, of excluded ones by
    reason (``excluded``), and of features with each verdict, and mean scores.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name, or the model no such site.
    Missing
        If the codes of an SAE are not stored, or the model is not available.
    Mismatch
        If the model is not the one that was ingested.
    BadInput
        If there is nothing to probe, or the text cannot be divided.
    OutOfSpace
        If a single feature does not fit into memory, or the vectors do not fit on the disk.

    Examples
    --------
    >>> from ingest import ProbeSettings, probe_saes
    >>> settings = ProbeSettings(splits=("document",), controls=1)
    >>> (result,) = probe_saes("demo.atlas", ["tiny-a-l1-s0"], settings=settings, device="cpu")
    >>> result.name.startswith("tiny-a-l1-s0@hook_embed@")
    True
    """
    study = ProbeStudy(
        settings,
        tuple(sites),
        None if validate is None else Path(validate),
        model,
        tokenizer,
        device,
        memory,
    )
    return run_study(
        study, atlas, saes or None, replace=replace, workers=workers, ray=ray, progress=progress
    )


@dataclass(frozen=True, eq=False)
class ProbeStudy(TorchStudy):
    """Probe sites of a model for the features of SAEs.

    Parameters
    ----------
    settings
        How features are probed.
    sites
        TransformerLens names of sites, or ``"all"``: the embedding and ``hook_resid_post`` of
        every block.
    validate
        Another atlas of the same SAEs, whose text is used for validation. All tokens of
        this atlas are then used for training.
    model, tokenizer
        The model, by name, folder or in memory; the one that the atlas stores if None.
    device
        Where vectors are read and probes are trained.
    memory
        Bytes for fitting a block of features, in addition to the vectors and the codes of
        these features; less means smaller blocks.
    """

    kind: ClassVar[str] = "probe"
    version: ClassVar[int] = VERSION
    part_names: ClassVar[str] = "`sae@hook@run`, with `-` for `/`"
    tables: ClassVar[Mapping[str, str]] = {
        "Site": "the site it reads",
        "OF_MODEL": "the model of this site",
        "draws": "the balanced accuracy of each feature in each bootstrap draw; for one text and seed, draw b has the same documents for all SAEs",
    }

    smaller: ClassVar[str] = TODO

    settings: ProbeSettings
    sites: tuple[str, ...] = (EMBEDDING,)
    validate: Path | None = None
    model: Any = None
    tokenizer: object | None = None
    device: str = "auto"
    memory: int = 2 * 2**30
    _models: dict[str, LanguageModel] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker, which opens the model itself."""
        return {**vars(self), "_models": {}}

    def release(self) -> None:
        """Drop the models that the forecast opened."""
        self._models.clear()
        super().release()

    @cached_property
    def other(self) -> _ValidationAtlas | None:
        """The atlas used for validation, if there is one."""
        return None if self.validate is None else _open_other(self.validate)

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE, site and run."""
        if self.other is not None:
            _check_other_text(self.other, at.folder)
        return [
            _task(subject, hook, run)
            for group in _groups(at, selected_saes(at, saes, ("codes",), what="A probe"))
            for subject in group
            for hook in _hooks(self.sites, subject)
            for run in _runs(self.settings, self.other)
        ]

    def check(self, tasks: Sequence[Task], at: TaskContext) -> None:
        """Check a user-supplied model, even if there is nothing to compute."""
        if self.model is not None and not tasks:
            for name in at.sound.saes:
                if f"codes/{name}" in at.sound.parts:
                    self._open(open_subject(at.folder, at.sound, name), [EMBEDDING], at)
                    return

    def forecast_group(self, tasks: Sequence[Task], at: TaskContext) -> list[Cost]:
        """Return the cost of each task, from a few features of the first SAE.

        All runs of an SAE at a site finish together. The cost of a site other than the
        embedding is measured on a few tokens, and linear in their number.
        """
        keys = _keys(tasks)
        hooks = list(dict.fromkeys(hook for _, hook in keys))
        subject = open_subject(at.folder, at.sound, keys[0][0])
        model = self._open(subject, hooks, at)
        self._models[tasks[0].group] = model
        later = [hook for hook in hooks if hook != EMBEDDING]
        tokens = sum(count_rows(shard) for shard in subject.shards)
        tokens = min(tokens, self.settings.tokens or tokens)
        costs: dict[str, Sampled] = {}
        reading = 0.0
        for some in ([EMBEDDING] if EMBEDDING in hooks else [], later):
            if not some:
                continue
            n = tokens if some == [EMBEDDING] else sampled_tokens(tokens)
            with TemporaryDirectory(dir=at.scratch) as scratch:
                quiet = TaskContext(at.folder, at.sound, Path(scratch), SILENT)
                settings = replace(self.settings, tokens=n)
                work = _ProbeWork(quiet, model, some, settings, self.other, self.memory)
                one, vectors = work.sampled(
                    subject, features=probed_features(at.sound, subject.name, self.settings)
                )
            scale = tokens / n
            reading += vectors * scale
            costs |= dict.fromkeys(some, Sampled(one.setup * scale, one.feature * scale))
        found = []
        size = (
            4 * sum(model.site(hook).width for hook in hooks) * tokens * bool(later) + self.memory
        )
        seen: set[tuple[str, str]] = set()
        for key in keys:
            cost, number = costs[key[1]], probed_features(at.sound, key[0], self.settings)
            seconds = 0.0 if key in seen else cost.setup + number * cost.feature
            seen.add(key)
            found.append(Cost(seconds + reading, bytes=size))
            reading = 0.0  # the vectors are read before the first task
        return found

    def run_group(self, tasks: Sequence[Task], at: TaskContext) -> Iterator[tuple[Task, Found]]:
        """Probe SAEs that share one run of one model."""
        names = list(dict.fromkeys(task.saes[0] for task in tasks))
        subjects = [open_subject(at.folder, at.sound, name) for name in names]
        hooks = list(dict.fromkeys(hook for _, hook in _keys(tasks)))
        model = self._models.pop(tasks[0].group, None) or self._open(subjects[0], hooks, at)
        work = _ProbeWork(at, model, hooks, self.settings, self.other, self.memory)
        by_name = {task.name: task for task in tasks}
        for subject, result in work.results(subjects, set(_keys(tasks))):
            name = _part_name(subject.name, result.hook, result.run)
            if name in by_name:
                yield by_name[name], work.found(subject, result)

    def result(self, part: Part) -> StudyResult:
        """Return the result of a run."""
        summary = _summary(part)
        return StudyResult(
            self.kind,
            part.manifest.name,
            summary,
            verdict=_verdict(summary),
            tables=(part.manifest.tables, part.table),
        )

    def _open(self, subject: ProbedSae, hooks: Sequence[str], at: TaskContext) -> LanguageModel:
        opened = reopen_model(
            subject, self.model, hooks=hooks, tokenizer=self.tokenizer, device=self.device
        )
        if warning := unchecked(at.sound, opened.name):
            at.progress.report(warning)
        return opened


def stored_probes(
    sound: Sound, saes: Sequence[str], *, site: str, settings: ProbeSettings
) -> Results:
    """Return the stored results of the runs of some settings, without computation.

    Parameters
    ----------
    sound
        The sound parts of an atlas.
    saes
        Names of SAEs.
    site
        The probed site.
    settings
        Settings that name the runs.
    """
    study = ProbeStudy(settings, (site,))
    names = (_part_name(sae, site, run) for sae in saes for run in _runs(settings, None))
    parts = (sound.parts.get(f"{study.kind}/{name}") for name in names)
    return Results(study.result(part) for part in parts if part is not None)


def _groups(at: TaskContext, names: Sequence[str]) -> list[list[ProbedSae]]:
    """Return the SAEs in groups that share one run of one model."""
    groups: dict[object, list[ProbedSae]] = {}
    for name in names:
        subject = open_subject(at.folder, at.sound, name)
        groups.setdefault(_model_run(subject), []).append(subject)
    return list(groups.values())


def _model_run(subject: ProbedSae) -> str:
    """Return a key of the model run that an SAE needs."""
    return repr((subject.model["name"], subject.contexts, subject.batch_tokens))


def _task(subject: ProbedSae, hook: str, run: ProbeRun) -> Task:
    return Task(
        _part_name(subject.name, hook, run),
        (subject.name,),
        run.settings,
        made_from=(subject.sae.manifest.key,),
        reads=(f"codes/{subject.name}",),
        recorded={
            "split": run.split,
            "kind": run.kind,
            "validated_on": run.validated_on,
            "corpus": run.corpus,
        },
        omitted=("splits", "kinds", *run.settings.unused(run.kind)),
        group=_model_run(subject),
    )


def _keys(tasks: Sequence[Task]) -> list[tuple[str, str]]:
    """Return the SAE and the site of each task."""
    return [(task.saes[0], task.name.split("@")[1]) for task in tasks]


def _open_other(path: Path) -> _ValidationAtlas:
    folder = Folder.open(path)
    return _ValidationAtlas(folder, folder.sound(), Corpus.open(folder.corpus_file))


def _check_other_text(other: _ValidationAtlas, own: Folder) -> None:
    if own.corpus is not None and other.corpus.info.id == own.corpus["id"]:
        raise BadInput(
            f"{other.folder.path} has the same text as {own.path}, so it validates nothing. Name an atlas "
            "of another text, or omit `validate` to validate on a part of the documents."
        )


def _hooks(sites: Sequence[str], subject: ProbedSae) -> list[str]:
    layers = subject.model["layers"]
    every = [EMBEDDING, *(f"blocks.{i}.hook_resid_post" for i in range(layers))]
    hooks = [hook for site in sites for hook in (every if site == ALL else [site])]
    if not hooks:
        raise BadInput("No site was named. Name one with `sites`, such as hook_embed.")
    return list(dict.fromkeys(hooks))


def _runs(settings: ProbeSettings, other: _ValidationAtlas | None) -> list[ProbeRun]:
    info = None if other is None else other.corpus.info
    splits = settings.splits if info is None else ("corpus",)
    return [
        ProbeRun(split, kind, settings, *((info.name, info.id) if info else ()))
        for split in splits
        for kind in settings.kinds
    ]


def _part_name(sae: str, hook: str, run: ProbeRun) -> str:
    return f"{sae}@{hook}@{run.name.replace('/', '-')}"


@dataclass(frozen=True, eq=False)
class _ProbeWork:
    """The probing of SAEs that share one run of one model."""

    at: TaskContext
    model: LanguageModel
    hooks: Sequence[str]
    settings: ProbeSettings
    other: _ValidationAtlas | None
    memory: int

    def results(
        self, subjects: Sequence[ProbedSae], requested: set[tuple[str, str]]
    ) -> Iterator[tuple[ProbedSae, ProbeResult]]:
        """Yield each run of each SAE at each requested site."""
        designs: dict[str, Design] = {}
        first: ProbeData | None = None
        for subject in subjects:
            data = self._data(subject)
            if first is None:
                first, designs = data, self._designs(data, subject)
            elif data.lengths != first.lengths or not np.array_equal(data.ids, first.ids):
                raise Mismatch(
                    f"The codes of {subject.name} and {subjects[0].name} are of different tokens. Ingest one "
                    "of them again with `replace=True`."
                )
            for hook in self.hooks:
                if (subject.name, hook) in requested:
                    site = self._site(hook, designs[hook], data)
                    for result in self._probed(subject, data, site):
                        yield subject, result

    def sampled(self, subject: ProbedSae, *, features: int) -> tuple[Sampled, float]:
        """Measure the probes of a few features at the last site, and the reading of its tokens.

        Parameters
        ----------
        subject
            The SAE.
        features
            About how many features will be probed.

        Returns
        -------
        tuple
            The cost of the probes, and the seconds for the vectors of all sites.
        """
        read: list[ProbeData] = []
        reading = timed(lambda: read.append(self._data(subject)))
        (data,) = read
        token = torch.from_numpy(data.ids[:1].astype(np.int64))[None]
        # The first call loads kernels.
        self.model.run(token, torch.ones_like(token), hooks=self.hooks)
        designs: dict[str, Design] = {}
        reading += timed(lambda: designs.update(self._designs(data, subject)))
        site = self._site(self.hooks[-1], designs[self.hooks[-1]], data)
        # The splits of a text cost about the same, so one of them is measured.
        one = replace(self.settings, splits=self.settings.splits[:1])
        splits = 1 if self.other else len(self.settings.splits)

        def prepare(settings: ProbeSettings) -> Callable[[int], object]:
            return probe_blocks(data, [site], settings=settings, validated_on=self._validated_on)

        short = replace(one, iterations=1, controls=min(1, one.controls), draws=min(1, one.draws))
        prepare(short)(1)  # the first call compiles loops
        prepared: list[Callable[[int], object]] = []
        setup = timed(lambda: prepared.append(prepare(one)))
        cost = sampled(
            lambda n: timed(lambda: prepared[0](n)), setup=setup, features=features, at_once=CHUNK
        )
        return Sampled(cost.setup * splits, cost.feature * splits), reading

    @property
    def _validated_on(self) -> tuple[str, str] | None:
        info = None if self.other is None else self.other.corpus.info
        return None if info is None else (info.name, info.id)

    def _probed(
        self,
        subject: ProbedSae,
        data: ProbeData,
        site: SiteDesign,
    ) -> Iterator[ProbeResult]:
        yield from probe_all(
            data,
            [site],
            sae=subject.name,
            model=self.model.name,
            settings=self.settings,
            validated_on=self._validated_on,
            memory=self.memory,
            progress=self.at.progress,
        )

    def _data(self, subject: ProbedSae) -> ProbeData:
        texts = [subject.shards]
        if self.other is not None:
            validation = open_subject(self.other.folder, self.other.sound, subject.name)
            check_same(subject, validation, where=self.other.folder.path)
            texts.append(validation.shards)
        return ProbeData(texts, d_sae=int(subject.row["d_sae"]), first=self.settings.tokens)

    def _designs(self, data: ProbeData, subject: ProbedSae) -> dict[str, Design]:
        vectors: dict[str, Any] = {}
        if EMBEDDING in self.hooks:
            vectors[EMBEDDING] = by_id(self.model, data.ids)
        if later := [hook for hook in self.hooks if hook != EMBEDDING]:
            own = Corpus.open(self.at.folder.corpus_file)
            vectors |= by_token(
                self.model,
                [own] if self.other is None else [own, self.other.corpus],
                contexts=subject.contexts,
                batch_tokens=subject.batch_tokens,
                hooks=later,
                lengths=data.lengths,
                into=self.at.scratch,
                progress=self.at.progress,
            )
        with memory_errors(f"the vectors of {counted(len(vectors), 'site')}", todo=TODO):
            return {
                hook: Design(
                    x,
                    device=self.model.device,
                    scale=root_mean_square(x) if self.settings.scale else 1.0,
                )
                for hook, x in vectors.items()
            }

    def _site(self, hook: str, design: Design, data: ProbeData) -> SiteDesign:
        if hook == EMBEDDING:
            return SiteDesign(hook, design, data.type, np.arange(len(data.ids)), at_embedding=True)
        return SiteDesign(hook, design, np.arange(len(data)), data.type, at_embedding=False)

    def found(self, subject: ProbedSae, result: ProbeResult) -> Found:
        """Return the tables and sources that the part of a run stores."""
        sources: dict[str, Any] = {
            "left_out": result.left_out,
            "validated": {"documents": result.documents},
            "model": {
                "name": subject.model["name"],
                "weights": self.model.weights,
                "parameters": list(self.model.parameters([result.hook])),
            },
        }
        if self.other is not None:
            info = self.other.corpus.info
            sources["validation"] = {"corpus": info.id, "source": info.source}
        site = self.model.site(result.hook)
        tables = [
            ("PREDICTED_FROM", result.table),
            *site_tables(subject.model["name"], [site]),
        ]
        if result.draws is not None:
            tables.append(("draws", result.draws))
        dtypes = {"probe": "float32", "device": self.model.device.type}
        return Found(tables, sources=sources, dtypes=dtypes)


def _summary(part: Part) -> dict[str, Any]:
    """Return the results of a run as one row of a table."""
    stored = dict(part.manifest.settings)
    run = ProbeRun(
        stored["split"],
        stored["kind"],
        read_settings(ProbeSettings, stored),
        *(stored[name] for name in ("validated_on", "corpus") if stored[name] is not None),
    )
    edges = part.table("PREDICTED_FROM")
    means = (
        "balanced_accuracy",
        "token_table",
        "token_ceiling",
        "control",
        "shuffled",
        "r2",
        "r2_token_table",
        "r2_token_ceiling",
    )
    (site,) = part.table("Site").to_pylist()
    row: dict[str, Any] = {"sae": part.manifest.saes[0], "site": site["hook"], "run": run.name}
    row["features"] = edges.num_rows
    for name in means:
        values = edges[name].drop_null().to_numpy()
        row[name] = float(values.mean()) if len(values) else None
    verdicts = edges["verdict"].drop_null().value_counts().to_pylist()
    row["verdicts"] = {v["values"]: v["counts"] for v in verdicts}
    row["not_converged"] = edges["converged"].to_pylist().count(False)
    row["excluded"] = dict(part.manifest.sources["left_out"])
    return row


def _verdict(row: dict[str, Any]) -> list[str]:
    about = f"{row['sae']} at {row['site']} ({row['run']})"
    if row["verdicts"]:
        counts = ", ".join(f"{n:,} {verdict}" for verdict, n in sorted(row["verdicts"].items()))
        return [f"{about}: {counts}."]
    for score, ceiling, title in (
        ("balanced_accuracy", "token_ceiling", "balanced accuracy"),
        ("r2", "r2_token_ceiling", "R²"),
    ):
        if row[score] is not None:
            limit = "" if row[ceiling] is None else f"; mean token ceiling {row[ceiling]:.3f}"
            return [
                f"{about}: mean {title} {row[score]:.3f} of {row['features']:,} features{limit}."
            ]
    return [f"{about}: no feature has a score."]
