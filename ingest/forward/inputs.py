"""The inputs of an ingest: SAEs and models are opened and checked before any work is done.

SAEs with the same model, context and BOS form a group, which one run of the model serves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from atlas.disk.folder import Sound
from atlas.errors import BadInput, Mismatch, UnknownName
from atlas.progress import Progress
from atlas.studies.floors import is_floor, role_shown
from ingest.forward.shards import Group
from ingest.model.language_model import LanguageModel, open_model
from ingest.sae.autoencoder import Autoencoder, check_fit, last_name, open_sae
from ingest.sae.info import SaeInfo, slug
from ingest.settings import Settings
from ingest.text.tokenization import ContextSettings, check_tokenizer

__all__ = ["check_floor_of", "named_saes", "open_groups"]


def open_groups(
    saes: Sequence[object],
    model: Any,
    *,
    tokenizer: object | None,
    settings: Settings,
    progress: Progress,
) -> list[Group]:
    """Open SAEs and their models, check that they fit, and group the SAEs by run.

    Parameters
    ----------
    saes
        Each a name, ``NAME=SOURCE``, a folder, a sae-lens object or an ``Autoencoder``.
    model
        The model, by name, folder or in memory; each SAE's own if None.
    tokenizer
        The tokenizer of a model in memory.
    settings
        The settings of the ingest.
    progress
        Receives a note if the metadata of an SAE name another model.

    Raises
    ------
    BadInput, UnknownName, Missing
        If an SAE or model cannot be opened, or two SAEs have the same name.
    Mismatch
        If an SAE, its contexts or the tokenizer do not fit the model.
    """
    opened = _open_saes(saes)
    for sae in opened:
        sae.info = _with_role(sae.info, settings)
    models = _open_models(opened, model, tokenizer, settings)
    members: dict[tuple[object, ContextSettings], list[Autoencoder]] = {}
    for sae in opened:
        key = _model_of(sae.info, model)
        check_fit(sae.info, models[key])
        contexts = _contexts(sae.info, settings)
        _check_contexts(contexts, sae.info, models[key])
        _report_other_model(sae.info, models[key], progress)
        sae.to(models[key].device)
        members.setdefault((key, contexts), []).append(sae)
    return [
        Group(models[key], tuple(group), contexts, settings.batch_tokens)
        for (key, contexts), group in members.items()
    ]


def named_saes(saes: Sequence[object] | Mapping[str, object]) -> list[object]:
    """Return a list of SAEs for ``open_groups``; the SAEs of a mapping take its keys as names.

    A string is one SAE.
    """
    if isinstance(saes, str):
        return [saes]
    if not isinstance(saes, Mapping):
        return list(saes)
    return [
        f"{name}={source}" if isinstance(source, str | Path) else _renamed(source, name)
        for name, source in saes.items()
    ]


def _renamed(sae: object, name: str) -> Autoencoder:
    if isinstance(sae, Autoencoder):
        raise BadInput(
            f"The SAE {name!r} is an Autoencoder, which has a name; pass a list of SAEs instead of a mapping, "
            "and name each with open_sae(…, name=…)."
        )
    return open_sae(sae, name=name)


def check_floor_of(settings: Settings, sound: Sound) -> None:
    """Check that the SAE that ``floor_of`` of the settings names exists, and is no floor.

    A name in ``training.json`` is not checked, so a floor may be ingested before its trained SAE.

    Parameters
    ----------
    settings
        The settings of the ingest.
    sound
        The sound parts of the atlas.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of that name.
    BadInput
        If that SAE is a floor itself.
    """
    if (name := settings.floor_of) is None:
        return
    stored = sound.sae_rows
    if name not in stored:
        raise UnknownName(
            "SAE",
            name,
            known=list(stored),
            hint="Ingest the trained SAE first, or name another one with `floor_of`.",
        )
    if is_floor(stored[name]):
        trained = stored[name]["floor_of"]
        raise BadInput(
            f"floor_of is {name!r}, which is a floor itself ({role_shown(stored[name])}); expected a trained "
            f"SAE{f', such as {trained!r}' if trained else ''}."
        )


def _open_saes(saes: Sequence[object]) -> list[Autoencoder]:
    if not saes:
        raise BadInput("No SAE was named; name at least one with `saes`.")
    opened = [_open_sae(sae) for sae in saes]
    names = [sae.info.name for sae in opened]
    duplicates = sorted({n for n in names if names.count(n) > 1})
    if duplicates:
        raise BadInput(
            f"Two of the SAEs have the name {duplicates[0]!r}; give one another name, as in "
            "`saes='other-name=SOURCE'`."
        )
    return opened


def _open_sae(sae: Any) -> Autoencoder:
    if isinstance(sae, Autoencoder):
        return sae
    if isinstance(sae, str) and not Path(sae).exists():
        name, equals, source = sae.partition("=")
        if equals:
            return open_sae(source, name=name)
    return open_sae(sae)


def _with_role(info: SaeInfo, settings: Settings) -> SaeInfo:
    """Return the metadata of an SAE with the requested role, or else its recorded one."""
    role, floor_of = settings.role or info.role, settings.floor_of or info.floor_of
    if floor_of is not None and floor_of != slug(floor_of):
        raise BadInput(
            f"floor_of is {floor_of!r}; expected the name of an SAE in an atlas, such as "
            f"{slug(floor_of) or 'my-sae'!r}."
        )
    if floor_of == info.name:
        raise BadInput(
            f"The SAE {info.name} is named as a floor of itself; name the trained SAE of which it is a "
            "floor with `floor_of`, or give the floor another name, as in `saes='NAME=SOURCE'`."
        )
    return replace(info, role=role, floor_of=floor_of)


def _open_models(
    saes: Sequence[Autoencoder], model: Any, tokenizer: object | None, settings: Settings
) -> dict[object, LanguageModel]:
    """Open each model once, up to the deepest site that its SAEs read."""
    hooks: dict[Any, list[str]] = {}
    for sae in saes:
        hooks.setdefault(_model_of(sae.info, model), []).extend(sae.info.ingested_hooks)
    return {
        key: key
        if isinstance(key, LanguageModel)
        else open_model(
            key,
            tokenizer=tokenizer,
            hooks=sites,
            device=settings.device,
            dtype=settings.dtype,
            cached_digests=True,
        )
        for key, sites in hooks.items()
    }


def _model_of(info: SaeInfo, model: Any) -> Any:
    if model is not None:
        return model
    if info.model is None:
        raise BadInput(
            f"The metadata of the SAE {info.name} does not name its model; name it with `model`."
        )
    return info.model


def _contexts(info: SaeInfo, settings: Settings) -> ContextSettings:
    size = settings.context or info.context_size
    if size is None:
        raise BadInput(
            f"The metadata of the SAE {info.name} does not contain its context size; set it with "
            "`context`."
        )
    return ContextSettings(context_size=size, prepend_bos=info.prepend_bos)


def _check_contexts(contexts: ContextSettings, info: SaeInfo, model: LanguageModel) -> None:
    check_tokenizer(model.tokenizer, settings=contexts)
    longest = getattr(model.base.config, "max_position_embeddings", None)
    if longest is not None and contexts.context_size > longest:
        raise Mismatch(
            f"{info.name} has contexts of {contexts.context_size} tokens, and {model.name} allows at "
            f"most {longest}; set a smaller size with `context`."
        )


def _report_other_model(info: SaeInfo, model: LanguageModel, progress: Progress) -> None:
    """Report that the metadata of an SAE name another model; not an error, since names vary."""
    if info.model and last_name(info.model) != last_name(model.name):
        progress.report(
            f"Note: {info.name} was trained on {info.model}, and is run on {model.name}."
        )
