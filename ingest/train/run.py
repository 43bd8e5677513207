"""Training of SAEs, from texts to folders: one run of the model serves all of them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.atomic_files import discard, write_json
from atlas.errors import BadInput, Locked, Mismatch
from atlas.folder import Folder
from atlas.progress import SILENT, Pace, Progress, Stage, duration
from ingest.folder_checks import read_json_object
from ingest.forward.run import ingest
from ingest.model.language_model import LanguageModel, open_model
from ingest.model.next_token import NextTokenModel, open_next_token_model
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings
from ingest.text.atlas_corpus import Text
from ingest.text.tokenization import ContextSettings, check_tokenizer
from ingest.train import forecast
from ingest.train.buffer import Buffers
from ingest.train.job import Job, Plan
from ingest.train.quality import quality
from ingest.train.record import is_finished, origin_of, sources_of
from ingest.train.settings import TrainSettings
from ingest.train.specs import all_specs
from ingest.train.text import TrainingText, read_text

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["train"]

#: Default length of contexts.
CONTEXT = 256

#: Seconds after which a checkpoint of an SAE is written, at the end of a buffer.
CHECKPOINT_SECONDS = 20.0

#: Seconds between two reports of losses.
REPORT_SECONDS = 10.0

_QUALITY = "quality.json"


def train(
    out: str | Path,
    *,
    model: "str | Path | PreTrainedModel | LanguageModel",
    text: "Text | str | Path | Sequence[str]",
    settings: TrainSettings,
    tokenizer: object | None = None,
    head: "PreTrainedModel | None" = None,
    atlas: str | Path | None = None,
    replace: bool = False,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Train SAEs on the activations of a model, all of them in one run of the model.

    After an interruption, the same call continues from the last checkpoints. On one machine it
    ends in the same files as without the interruption, byte by byte.

    Parameters
    ----------
    out
        Folder for the SAEs, one folder of sae-lens for each, with ``training.json`` and
        ``quality.json``.
    model, tokenizer
        The model, by name, folder or in memory; the tokenizer of a model in memory.
    text
        The text; it is read only as far as the requested tokens need it.
    settings
        Which SAEs to train, and how.
    head
        The causal language model of which ``model`` is the part without head, if ``model`` is
        an opened ``LanguageModel``; needed for losses in the table.
    atlas
        Atlas into which the SAEs are ingested at the end. A new atlas gets the held-out documents
        as its corpus.
    replace
        Replace SAEs in the folder that were trained with other settings, and in the atlas.
    progress
        Receives the forecast and the progress.

    Returns
    -------
    list
        A row for each SAE, in the order of the settings: its name and training record, and its
        quality on held-out documents (see ``ingest.train.quality.quality``).

    Raises
    ------
    AtlasError
        A subclass of it from ``atlas.errors``; finished SAEs and checkpoints are not lost.

    Examples
    --------
    >>> from ingest import TrainSettings, train
    >>> settings = TrainSettings(sites=("blocks.0.hook_resid_post",), widths=(512, 2048), seeds=(0, 1))
    >>> rows = train("saes", model="./my-model", text="stories.jsonl", settings=settings)  # doctest: +SKIP
    """
    folder = Path(out)
    _check_folder(folder)
    opened = _open(model, tokenizer, settings)
    contexts = _contexts(opened, settings)
    specs = all_specs(opened, settings)
    request = text if isinstance(text, Text) else Text(text)
    with _writing(folder):
        read = read_text(
            request,
            folder / ".text.parquet",
            settings=settings,
            tokenizer=opened.tokenizer,
            progress=progress,
        )
        steps = settings.steps or (
            (settings.tokens or read.epoch_tokens * settings.epochs) // settings.batch
        )
        plan = Plan(
            folder,
            settings,
            steps,
            _metadata(opened, contexts),
            sources_of(opened, read),
            opened.device,
        )
        jobs = [
            Job(s, plan, origin_of(s, opened, read, settings, contexts=contexts, steps=steps))
            for s in specs
        ]
        todo = [j for j in jobs if not is_finished(j.folder, j.origin, replace=replace)]
        if len(todo) < len(jobs):
            progress.report(f"{len(jobs) - len(todo)} of {len(jobs)} SAEs are trained already.")
        if todo:
            _train_all(todo, plan, opened, read, contexts, progress)
            discard(folder / ".unfinished")
        rows = _quality(jobs, opened, _given_head(model, head), read, plan, contexts, progress)
        if atlas is not None:
            source = model if isinstance(model, str | Path) else opened
            _ingest(Path(atlas), jobs, read, source, settings, replace=replace, progress=progress)
        (folder / ".text.parquet").unlink(missing_ok=True)
    return rows


def _ingest(
    atlas: Path,
    jobs: Sequence[Job],
    text: TrainingText,
    model: "str | Path | LanguageModel",
    settings: TrainSettings,
    *,
    replace: bool,
    progress: Progress,
) -> None:
    """Ingest the SAEs into an atlas; a new one gets the held-out documents."""
    known = (atlas / "atlas.json").exists() and Folder.open(atlas).corpus is not None
    held_out = None
    if not known:
        documents = [document.text for document in text.held_out_documents()]
        held_out = Text(documents, name=f"{text.corpus.info.name}, held out")
    ingest(
        atlas,
        saes=[str(job.folder) for job in jobs],
        text=held_out,
        model=model,
        settings=Settings(device=settings.device),
        match=None,
        replace=replace,
        progress=progress,
    )


def _train_all(
    todo: Sequence[Job],
    plan: Plan,
    model: LanguageModel,
    text: TrainingText,
    contexts: ContextSettings,
    progress: Progress,
) -> None:
    """Train the SAEs that are not finished, buffer by buffer."""
    settings = plan.settings
    per_buffer = max(1, settings.buffer // settings.batch)
    size = min(per_buffer, plan.steps) * settings.batch
    buffers = Buffers(
        model,
        text,
        tuple(dict.fromkeys(j.spec.site for j in todo)),
        contexts=contexts,
        batch_tokens=settings.batch_tokens,
        size=size,
        total=plan.steps * settings.batch,
    )
    resumed = sum(job.resume() for job in todo)
    if resumed:
        first = min(j.done for j in todo)
        progress.report(
            f"Continuing from the checkpoints of {resumed} SAE(s), the earliest at step {first:,} of {plan.steps:,}."
        )
    numbers = [
        n for n in range(len(buffers)) if any(_needs(j, n, size, settings.batch) for j in todo)
    ]
    costs = forecast.measure(todo, buffers, plan)
    seconds = forecast.report(
        todo, costs, buffers, plan, tokens=sum(map(buffers.rows, numbers)), progress=progress
    )
    pace = Pace(seconds, progress=progress)
    total = sum(j.steps - j.done for j in todo)
    run = _Run(todo, plan, pace, costs, progress)
    with progress.stage(f"Training {len(todo)} SAE(s)", total=total, unit="steps") as stage:
        for number in numbers:
            pace.skip()
            filled = buffers.fill(number)
            pace.lap("model", costs.token * buffers.rows(number))
            run.buffer(number, size, filled, stage)


def _needs(job: Job, number: int, size: int, batch: int) -> bool:
    """Return whether an SAE has steps to take on a buffer, or takes its initial weights from it."""
    begins = number * size // batch
    return (not job.begun and number == 0) or (job.done <= begins < job.steps)


class _Run:
    """The loop over the SAEs of a buffer: steps, checkpoints, reports and finished folders."""

    def __init__(
        self,
        jobs: Sequence[Job],
        plan: Plan,
        pace: Pace,
        costs: forecast.Costs,
        progress: Progress,
    ) -> None:
        self._jobs, self._plan, self._pace = list(jobs), plan, pace
        self._costs, self._progress = costs, progress
        now = time.monotonic()
        self._saved = dict.fromkeys((j.spec.name for j in jobs), now)
        self._reported = now

    def buffer(self, number: int, size: int, filled: "dict[str, Tensor]", stage: Stage) -> None:
        """Train all SAEs on a buffer."""
        batch = self._plan.settings.batch
        for job in self._jobs:
            if not _needs(job, number, size, batch):
                continue
            x = filled[job.spec.site]
            if not job.begun:
                job.begin(x)
            before = job.done
            if job.steps:
                job.take(x, number, stage.advance)
            if job.done == job.steps:
                job.finish()
                self._lap(job, job.steps - before)
                continue
            self._lap(job, job.done - before)
            self._save(job)
        self._report((number * size + len(next(iter(filled.values())))) // batch)

    def _lap(self, job: Job, steps: int) -> None:
        self._pace.lap("train", steps * self._costs.step[job.spec.name])

    def _save(self, job: Job) -> None:
        now = time.monotonic()
        if now - self._saved[job.spec.name] >= CHECKPOINT_SECONDS:
            job.save()
            self._saved[job.spec.name] = now

    def _report(self, step: int) -> None:
        """Report losses and the remaining time, at most once in some seconds."""
        now = time.monotonic()
        found = [j.last for j in self._jobs if j.last is not None]
        if not found or (now - self._reported < REPORT_SECONDS and step < self._plan.steps):
            return
        self._reported = now
        fvu = sorted(last.fvu for last in found)
        l0, dead = (
            sum(getattr(last, name) for last in found) / len(found) for name in ("l0", "dead_share")
        )
        left = (
            ""
            if step == self._plan.steps
            else f"; about {duration(self._pace.seconds_remaining)} remain"
        )
        self._progress.report(
            f"Step {step:,} of {self._plan.steps:,}: FVU {fvu[0]:.3f} to {fvu[-1]:.3f}, mean L0 {l0:.1f}, mean dead "
            f"share {dead:.1%}{left}."
        )


def _quality(
    jobs: Sequence[Job],
    model: LanguageModel,
    given: "str | Path | PreTrainedModel | None",
    text: TrainingText,
    plan: Plan,
    contexts: ContextSettings,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Return the rows of all SAEs; measure those that are not measured yet."""
    settings = plan.settings
    key = {"text": text.corpus.info.id, "tokens": settings.quality_tokens}
    todo = [j for j in jobs if settings.quality_tokens and _stored(j, key) is None]
    if todo:
        documents = text.held_out_sample(settings.quality_tokens, model.tokenizer)
        saes = [open_sae(j.folder, device=model.device) for j in todo]
        rows = quality(
            saes,
            documents,
            model=model,
            head=_head(model, given, progress),
            contexts=contexts,
            batch_tokens=settings.batch_tokens,
            most=settings.quality_tokens,
            progress=progress,
        )
        for job, row in zip(todo, rows, strict=False):
            write_json(job.folder / _QUALITY, {"on": key, "quality": row})
    return [_row(j, _stored(j, key)) for j in jobs]


def _stored(job: Job, key: dict[str, Any]) -> dict[str, Any] | None:
    path = job.folder / _QUALITY
    if not path.exists():
        return None
    stored = read_json_object(path)
    return stored["quality"] if stored.get("on") == key else None


def _row(job: Job, measured: dict[str, Any] | None) -> dict[str, Any]:
    spec = job.spec
    about = {
        name: getattr(spec, name)
        for name in ("site", "architecture", "width", "k", "seed", "role", "floor_of")
    }
    own = {k: v for k, v in (measured or {}).items() if k != "sae"}
    return {"sae": spec.name, "folder": str(job.folder), **about, **own}


def _head(
    model: LanguageModel, given: "str | Path | PreTrainedModel | None", progress: Progress
) -> NextTokenModel | None:
    """Open the complete model; report why losses are omitted if that fails."""
    if given is None:
        progress.report("The model was passed without its head, so the table has no losses.")
        return None
    try:
        return open_next_token_model(model, given)
    except Mismatch as error:
        progress.report(f"The table has no losses: {error}")
        return None


def _given_head(
    model: Any, head: "PreTrainedModel | None"
) -> "str | Path | PreTrainedModel | None":
    if head is not None:
        return head
    return None if isinstance(model, LanguageModel) else model


def _open(model: Any, tokenizer: object | None, settings: TrainSettings) -> LanguageModel:
    if isinstance(model, LanguageModel):
        return model
    return open_model(
        model, tokenizer=tokenizer, hooks=settings.sites, device=settings.device, dtype="auto"
    )


def _contexts(model: LanguageModel, settings: TrainSettings) -> ContextSettings:
    longest = getattr(model.base.config, "max_position_embeddings", None)
    context = settings.context or min(CONTEXT, longest or CONTEXT)
    if longest is not None and context > longest:
        raise Mismatch(
            f"Contexts have {context} tokens; expected at most {longest}, the limit of {model.name}. Pass a "
            "smaller --context."
        )
    contexts = ContextSettings(context, prepend_bos=model.tokenizer.bos_token_id is not None)
    check_tokenizer(model.tokenizer, settings=contexts)
    return contexts


def _metadata(model: LanguageModel, contexts: ContextSettings) -> dict[str, Any]:
    return {
        "model_name": model.name if model.source == "memory" else model.source,
        "context_size": contexts.context_size,
        "prepend_bos": contexts.prepend_bos,
    }


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; name a folder for the SAEs with --out.")
    for name, what in (("cfg.json", "an SAE"), ("atlas.json", "an atlas")):
        if (folder / name).exists():
            raise BadInput(
                f"{folder} is the folder of {what}; name another folder for the SAEs with --out."
            )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder; explain an interruption of the user."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise Locked(
            f"Another process trains SAEs in {folder}; wait until it has finished, or name another folder with "
            "--out."
        ) from None
    try:
        yield
    finally:
        lock.release()
