"""What was named, opened and held against each other, before any work is done.

SAEs that one run of one model can serve (the same model, context and BOS) make a group.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atlas.errors import BadInput, Mismatch
from atlas.progress import Progress
from ingest.forward.shards import Group
from ingest.model.language_model import LanguageModel, open_model
from ingest.sae.autoencoder import Autoencoder, check_fit, open_sae
from ingest.sae.info import SaeInfo
from ingest.settings import Settings
from ingest.text.tokenization import ContextSettings, check_tokenizer

__all__ = ["open_groups"]


def open_groups(
    saes: Sequence[object],
    model: Any,
    *,
    tokenizer: object | None,
    settings: Settings,
    progress: Progress,
) -> list[Group]:
    """Open SAEs and their models, check that all fit, and group what one run serves.

    Parameters
    ----------
    saes
        Each a name, ``NAME=SOURCE``, a folder, a sae-lens object or an ``Autoencoder``.
    model
        The model, by name, folder or in memory; each SAE's own if None.
    tokenizer
        The tokenizer of a model in memory.
    settings
        How the ingest is done.
    progress
        Told where an SAE's metadata name another model.

    Raises
    ------
    BadInput, UnknownName, Missing
        If something cannot be opened, or two SAEs have one name.
    Mismatch
        If an SAE does not fit its model, or a context or the tokenizer does not.
    """
    opened = _open_saes(saes)
    models = _open_models(opened, model, tokenizer, settings)
    members: dict[tuple[object, ContextSettings], list[Autoencoder]] = {}
    for sae in opened:
        given = _model_of(sae.info, model)
        check_fit(sae.info, models[given])
        contexts = _contexts(sae.info, settings)
        _check_contexts(contexts, sae.info, models[given])
        _report_other_model(sae.info, models[given], progress)
        sae.to(models[given].device)
        members.setdefault((given, contexts), []).append(sae)
    return [
        Group(models[given], tuple(those), contexts, settings.batch_tokens)
        for (given, contexts), those in members.items()
    ]


def _open_saes(given: Sequence[object]) -> list[Autoencoder]:
    if not given:
        raise BadInput("No SAE was named; name at least one with --sae.")
    opened = [_open_sae(one) for one in given]
    names = [sae.info.name for sae in opened]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise BadInput(
            f"Two of the SAEs have the name {twice[0]!r}; give one another name, as in "
            f"--sae other-name=SOURCE."
        )
    return opened


def _open_sae(one: Any) -> Autoencoder:
    if isinstance(one, Autoencoder):
        return one
    if isinstance(one, str) and not Path(one).exists():
        name, equals, source = one.partition("=")
        if equals:
            return open_sae(source, name=name)
    return open_sae(one)


def _open_models(
    saes: Sequence[Autoencoder], model: Any, tokenizer: object | None, settings: Settings
) -> dict[object, LanguageModel]:
    """Open each model once, as deep as its SAEs read."""
    hooks: dict[Any, list[str]] = {}
    for sae in saes:
        hooks.setdefault(_model_of(sae.info, model), []).extend(sae.info.hooks)
    return {
        given: given
        if isinstance(given, LanguageModel)
        else open_model(
            given,
            tokenizer=tokenizer,
            hooks=wanted,
            device=settings.device,
            dtype=settings.dtype,
        )
        for given, wanted in hooks.items()
    }


def _model_of(info: SaeInfo, model: Any) -> Any:
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


def _check_contexts(contexts: ContextSettings, info: SaeInfo, model: LanguageModel) -> None:
    check_tokenizer(model.tokenizer, settings=contexts)
    longest = getattr(model.base.config, "max_position_embeddings", None)
    if longest is not None and contexts.context_size > longest:
        raise Mismatch(
            f"{info.name} has contexts of {contexts.context_size} tokens, and {model.name} takes "
            f"{longest} at most; choose shorter ones with --context."
        )


def _report_other_model(info: SaeInfo, model: LanguageModel, progress: Progress) -> None:
    """Say it where an SAE's metadata name another model; names vary, so it is no error."""
    if info.model and _last(info.model) != _last(model.name):
        progress.report(
            f"Note: {info.name} was trained on {info.model}, and is run on {model.name}."
        )


def _last(name: str) -> str:
    return name.rstrip("/").split("/")[-1].lower()
