"""Training of SAEs, from texts to folders: one run of the model serves all of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.amounts import counted
from atlas.disk.atomic_files import discard, write_json
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Locked, Mismatch
from atlas.progress import SILENT, Progress
from ingest.folder_checks import is_one_line, read_json_object
from ingest.forward.run import ingest
from ingest.model.language_model import LanguageModel, open_model
from ingest.model.next_token import NextTokenModel, check_head, open_next_token_model
from ingest.precision import ieee_float32
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings
from ingest.text.atlas_corpus import Text
from ingest.text.tokenization import ContextSettings, check_tokenizer
from ingest.train.job import UNFINISHED, Job, Plan
from ingest.train.loop import train_all
from ingest.train.quality import quality
from ingest.train.record import is_finished, origin_of, sources_of
from ingest.train.settings import TrainSettings
from ingest.train.specs import all_specs
from ingest.train.text import TrainingText, read_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["train_saes"]

#: Default length of contexts.
CONTEXT = 256

_QUALITY = "quality.json"


def train_saes(
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
    """Train SAEs on the activations of a model.

    One run of the model serves all SAEs.

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
        as its corpus: one in ``settings.held_out`` of the documents that were read, about 5% by default.
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
    >>> from ingest import TrainSettings, train_saes
    >>> site = "blocks.0.hook_resid_post"
    >>> settings = TrainSettings(sites=(site,), widths=(96,), seeds=(0, 1), k=(4,), tokens=2000)
    >>> rows = train_saes("saes", model="tiny-a", text="stories.jsonl", settings=settings)
    >>> len(rows)
    2
    """
    folder = Path(out)
    _check_folder(folder)
    opened = _open(model, tokenizer, settings)
    _check_name(opened)
    contexts = _contexts(opened, settings)
    all_specs(opened, settings)  # reports wrong names and sizes before the text is read
    request = text if isinstance(text, Text) else Text(text)
    complete = head if isinstance(model, LanguageModel) else model
    if settings.quality_tokens:
        complete = _with_head(opened, complete, progress)
    with _writing(folder) as scratch, ieee_float32():
        read = read_text(
            request, scratch, settings=settings, tokenizer=opened.tokenizer, progress=progress
        )
        jobs = _jobs(folder, opened, read, contexts, settings)
        todo = [j for j in jobs if not is_finished(j.folder, j.origin, replace=replace)]
        if len(todo) < len(jobs):
            progress.report(f"{len(jobs) - len(todo)} of {len(jobs)} SAEs are trained already.")
        if todo:
            train_all(todo, opened, read, contexts=contexts, progress=progress)
            with suppress(OSError):  # it may have checkpoints of other SAEs
                (folder / UNFINISHED).rmdir()
        rows = _quality(jobs, opened, complete, read, contexts, settings, progress)
        if atlas is not None:
            ingest_model = model if isinstance(model, str | Path) else opened
            _ingest(
                Path(atlas), jobs, read, ingest_model, settings, replace=replace, progress=progress
            )
    return rows


def _jobs(
    folder: Path,
    model: LanguageModel,
    text: TrainingText,
    contexts: ContextSettings,
    settings: TrainSettings,
) -> list[Job]:
    """Return the SAEs of the settings, with what their training depends on."""
    tokens = settings.tokens or text.epoch_tokens * settings.epochs
    steps = settings.steps or tokens // settings.batch
    metadata = {
        "model_name": _recorded_name(model),
        "context_size": contexts.context_size,
        "prepend_bos": contexts.prepend_bos,
    }
    plan = Plan(folder, settings, steps, metadata, sources_of(model, text), model.device)
    return [
        Job(
            spec,
            plan,
            origin_of(spec, model, text, settings=settings, contexts=contexts, steps=steps),
        )
        for spec in all_specs(model, settings)
    ]


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
        progress.report(
            f"The corpus of {atlas} is the held-out text: {counted(len(documents), 'document')} with "
            f"{text.held_out_tokens:,} tokens, one document in {text.held_out} of the text that was read. For another "
            "corpus, run `atlas ingest --text` on the folders of the SAEs instead of `ingest`."
        )
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


def _quality(
    jobs: Sequence[Job],
    model: LanguageModel,
    source: "str | Path | PreTrainedModel | None",
    text: TrainingText,
    contexts: ContextSettings,
    settings: TrainSettings,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Return the rows of all SAEs; measure those that are not measured yet."""
    key = {"text": text.corpus.info.id, "tokens": settings.quality_tokens}
    todo = [j for j in jobs if settings.quality_tokens and _stored(j, key) is None]
    if todo:
        documents = text.held_out_sample(settings.quality_tokens, model.tokenizer)
        saes = [open_sae(j.folder, device=model.device) for j in todo]
        rows = quality(
            saes,
            documents,
            model=model,
            head=_head(model, source, progress),
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


def _with_head(
    model: LanguageModel, source: "str | Path | PreTrainedModel | None", progress: Progress
) -> "str | Path | PreTrainedModel | None":
    """Return the source of the complete model; report before the training if it has no head."""
    try:
        if source is None:
            raise Mismatch("the model was passed without its head.")
        check_head(model, source)
    except Mismatch as error:
        progress.report(f"The quality table will have no losses: {error}")
        return None
    return source


def _head(
    model: LanguageModel, source: "str | Path | PreTrainedModel | None", progress: Progress
) -> NextTokenModel | None:
    """Open the complete model; report why losses are omitted if its files have no head."""
    if source is None:
        return None
    try:
        return open_next_token_model(model, source)
    except Mismatch as error:
        progress.report(f"The table has no losses: {error}")
        return None


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
            "smaller `context`."
        )
    contexts = ContextSettings(context, prepend_bos=model.tokenizer.bos_token_id is not None)
    check_tokenizer(model.tokenizer, settings=contexts)
    return contexts


def _recorded_name(model: LanguageModel) -> str:
    """Return the name of the model in the configuration of an SAE."""
    return model.name if model.source == "memory" else model.source


def _check_name(model: LanguageModel) -> None:
    if not is_one_line(name := _recorded_name(model)):
        raise BadInput(
            f"The model is named {name!r}; expected a name of one line without control characters, as SAEs record "
            "it. Rename its folder."
        )


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; name a folder for the SAEs with `out`.")
    for name, what in (("cfg.json", "an SAE"), ("atlas.json", "an atlas")):
        if (folder / name).exists():
            raise BadInput(
                f"{folder} is the folder of {what}; name another folder for the SAEs with `out`."
            )


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """Hold the lock of the folder, and yield a file for the text, which is removed at the end."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise Locked(
            f"Another process trains SAEs in {folder}; wait until it has finished, or name another folder with "
            "`out`."
        ) from None
    text = folder / ".text.parquet"
    for leftover in (
        *folder.glob(".*.new"),
        *folder.glob(".*.old"),
        *folder.glob(f"{UNFINISHED}/.*"),
    ):
        discard(leftover)  # a killed process could not remove them
    try:
        yield text
    finally:
        text.unlink(missing_ok=True)
        lock.release()
