"""One ingest from request to parts: what is checked first, what runs, what is left behind.

The order of work: open the SAEs and their models, check that all fit, read the
text, then for each group of SAEs that one run of a model can serve: the pass
(shard by shard, each finished shard a checkpoint), the reductions, the parts.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.api import Atlas
from atlas.errors import Asked, BadInput, Mismatch
from atlas.folder import Folder
from atlas.progress import SILENT, Progress
from ingest.checkpoint import Checkpoint
from ingest.contexts import ContextSettings, token_counts, token_texts
from ingest.corpus import Corpus
from ingest.deliver import Delivery
from ingest.estimate import estimate
from ingest.models import LanguageModel, open_model
from ingest.passes import Pass
from ingest.reduce import on_activations, on_codes
from ingest.sae_info import SaeInfo
from ingest.saes import Autoencoder, check_fit, open_sae
from ingest.settings import Settings
from ingest.shards import Group
from ingest.texts import SplitOn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Text", "ingest"]


@dataclass(frozen=True)
class Text:
    """A text to ingest.

    Parameters
    ----------
    source
        A file, a folder, the name of a data set, or a list of documents.
    name
        What to call it; made from the source if None.
    field
        The field or column that holds the text, in JSONL, Parquet and data sets.
    split, revision
        Of a data set.
    split_on
        What ends a document in a plain text file; see ``ingest.texts.read``.
    """

    source: str | Path | Sequence[str]
    name: str | None = None
    field: str = "text"
    split: str = "train"
    revision: str | None = None
    split_on: SplitOn = "paragraph"


def ingest(
    atlas: str | Path,
    *,
    saes: Sequence[object],
    text: "Text | str | Path | Sequence[str] | None" = None,
    model: "str | Path | PreTrainedModel | LanguageModel | None" = None,
    tokenizer: object | None = None,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    replace: bool = False,
    progress: Progress = SILENT,
) -> Atlas:
    """Run SAEs over a text and write what they do into an atlas.

    Parameters
    ----------
    atlas
        The folder of the atlas; a new one is begun if there is none.
    saes
        Each a short name, ``release:sae_id``, a local folder, or a sae-lens object.
    text
        What to read. An atlas has one corpus: None takes the one it has.
    model
        The model, by name, folder or in memory; each SAE's own if None.
    tokenizer
        The tokenizer of a model in memory.
    settings
        How it is done.
    replace
        Make SAEs anew that the atlas has with other settings.
    progress
        Told how far the work is.

    Returns
    -------
    Atlas
        The atlas, open for reading.

    Raises
    ------
    AtlasError
        One of the tree in ``atlas.errors``; nothing finished is lost.
    """
    folder = Folder.create(Path(atlas))
    request = _request(saes, text, model, settings)
    with folder.writing():
        opened = _open_saes(saes, device=settings.device)
        groups = _group(opened, model, tokenizer, settings)
        for group in groups:
            _tell_other_model(group, progress)
        corpus = _corpus(folder, text, settings, groups[0].model, progress)
        for group in groups:
            todo = _not_there_yet(
                folder, group, corpus, settings, replace=replace, progress=progress
            )
            if todo is not None:
                _ingest_group(folder, todo, corpus, settings, request=request, progress=progress)
    return Atlas.open(folder.path, progress=progress)


def _open_saes(given: Sequence[object], *, device: str) -> list[Autoencoder]:
    if not given:
        raise BadInput("No SAE was named; name at least one with --sae.")
    opened = [one if isinstance(one, Autoencoder) else open_sae(one) for one in given]
    names = [sae.info.name for sae in opened]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise BadInput(f"Two of the SAEs have the name {twice[0]!r}; give each another name.")
    return opened


def _group(
    saes: Sequence[Autoencoder],
    model: object | None,
    tokenizer: object | None,
    settings: Settings,
) -> list[Group]:
    """Open each model once, check every SAE against it, and group what one run serves."""
    hooks: dict[object, list[str]] = {}
    for sae in saes:
        hooks.setdefault(_model_of(sae.info, model), []).append(sae.info.hook)
    models = {
        given: given
        if isinstance(given, LanguageModel)
        else open_model(
            given,  # type: ignore[arg-type]
            tokenizer=tokenizer,
            hooks=wanted,
            device=settings.device,
            dtype=settings.dtype,
        )
        for given, wanted in hooks.items()
    }
    members: dict[tuple[object, ContextSettings], list[Autoencoder]] = {}
    for sae in saes:
        given = _model_of(sae.info, model)
        check_fit(sae.info, models[given])
        sae.to(models[given].device)
        members.setdefault((given, _contexts(sae.info, settings)), []).append(sae)
    return [
        Group(models[given], tuple(those), contexts, settings.batch_tokens)
        for (given, contexts), those in members.items()
    ]


def _tell_other_model(group: Group, progress: Progress) -> None:
    """Say it where an SAE's metadata name another model; names vary, so it is no error."""
    model = group.model.name
    for sae in group.saes:
        trained_on = sae.info.model
        if trained_on and trained_on.split("/")[-1].lower() != model.split("/")[-1].lower():
            progress.say(
                f"Note: {sae.info.name} was trained on {trained_on}, and is run on {model}."
            )


def _model_of(info: SaeInfo, model: object | None) -> object:
    if model is not None:
        return model
    if info.model is None:
        raise BadInput(
            f"The metadata of the SAE {info.name} does not name its model; name it with --model."
        )
    return info.model


def _contexts(info: SaeInfo, settings: Settings) -> ContextSettings:
    size = settings.context or info.context_size
    if size is None:
        raise BadInput(
            f"The metadata of the SAE {info.name} does not say how long its contexts are; "
            "say it with --context."
        )
    return ContextSettings(context_size=size, prepend_bos=info.prepend_bos)


def _corpus(
    folder: Folder,
    text: "Text | str | Path | Sequence[str] | None",
    settings: Settings,
    model: LanguageModel,
    progress: Progress,
) -> Corpus:
    """Return the atlas' corpus, read from the text if it has none yet."""
    if text is None:
        if folder.corpus is None:
            raise BadInput("The atlas has no text yet; name one with --text.")
        if settings.tokens is not None:
            raise Mismatch(
                "--tokens cuts a new text, and this atlas has its corpus already; leave --tokens out, or "
                "begin another atlas with --atlas."
            )
        return Corpus.open(folder.corpus_file)
    given = text if isinstance(text, Text) else Text(text)
    into = folder.path / "corpus.parquet.given"
    corpus = Corpus.gather(
        given.source,
        into,
        name=given.name,
        revision=given.revision,
        split=given.split,
        field=given.field,
        split_on=given.split_on,
        tokens=settings.tokens,
        count=partial(token_counts, tokenizer=model.tokenizer),
        progress=progress,
    )
    try:
        folder.check_corpus(asdict(corpus.info))
        into.replace(folder.corpus_file)
        folder.set_corpus(asdict(corpus.info))
    finally:
        into.unlink(missing_ok=True)
    return Corpus.open(folder.corpus_file)


def _not_there_yet(
    folder: Folder,
    group: Group,
    corpus: Corpus,
    settings: Settings,
    *,
    replace: bool,
    progress: Progress,
) -> Group | None:
    """Leave out the SAEs whose parts are all there and sound, with the same settings."""
    sound = folder.sound()
    delivery = Delivery(folder, group, corpus.info)
    kinds = [r.name for r in (*on_codes(seed=0), *on_activations())]
    kinds += ["codes"] if settings.keep_codes else []
    todo: list[Autoencoder] = []
    for sae in group.saes:
        name = sae.info.name
        there = sound.parts.get(f"sae/{name}")
        wanted = delivery.sae_manifest(sae.info)
        if there is None or replace:
            todo.append(sae)
        elif there.manifest.origin != wanted.origin:
            raise Asked(
                f"The atlas has an SAE {name} made with other weights or settings "
                f"({there.manifest.difference(wanted)}). Add --replace to make it anew, or give this one "
                "another name."
            )
        elif all(f"{kind}/{name}" in sound.parts for kind in kinds):
            progress.say(f"{name} is in the atlas already, with the same text and settings.")
        else:
            todo.append(sae)
    if not todo:
        return None
    return Group(group.model, tuple(todo), group.contexts, group.batch_tokens)


def _ingest_group(
    folder: Folder,
    group: Group,
    corpus: Corpus,
    settings: Settings,
    *,
    request: dict[str, Any],
    progress: Progress,
) -> None:
    delivery = Delivery(folder, group, corpus.info)
    runs = {
        sae.info.name: Checkpoint(folder.run(_run_id(sae, delivery, settings)))
        for sae in group.saes
    }
    estimate(group, corpus, folder=folder.path, settings=settings, progress=progress)
    for run in runs.values():
        run.begin(request)
    work = Pass(group, corpus, runs, settings)
    work.run(progress)
    texts = partial(token_texts, group.model.tokenizer)
    for sae in group.saes:
        work.deliver(sae, delivery, texts=texts, progress=progress)


def _run_id(sae: Autoencoder, delivery: Delivery, settings: Settings) -> str:
    """Name the run by all that its shards depend on, so that the same command finds it again."""
    core = {
        "origin": delivery.sae_manifest(sae.info).origin,
        "shard_blocks": settings.shard_blocks,
        "keep_codes": settings.keep_codes,
        "seed": settings.seed,
        "versions": {r.name: r.version for r in (*on_codes(seed=0), *on_activations())},
    }
    digest = hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()
    return f"{sae.info.name}-{digest[:12]}"


def _request(
    saes: Sequence[object], text: object, model: object, settings: Settings
) -> dict[str, Any]:
    """Note what was asked; what lives in memory only cannot be asked again from disk."""
    in_memory = [s for s in (*saes, model) if not isinstance(s, str | Path | None)]
    return {
        "saes": [str(s) if isinstance(s, str | Path) else None for s in saes],
        "model": str(model) if isinstance(model, str | Path) else None,
        "settings": asdict(settings),
        "from_memory": bool(in_memory),
    }
