"""How an SAE of an atlas was ingested: its model, opened again as it was, and how text was laid out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.errors import BadInput, Mismatch, UnknownName
from atlas.folder import Sound
from atlas.parts import Part, stored_digests
from ingest.model.language_model import LanguageModel, open_model
from ingest.text.tokenization import ContextSettings

__all__ = ["SaeRecord", "open_sae_record", "reopen", "reopen_model"]


@dataclass(frozen=True, eq=False)
class SaeRecord:
    """An SAE of an atlas, and what its model was given.

    Parameters
    ----------
    name
        Its name in the atlas.
    sae
        The part that says who it is.
    row, model
        Its row of the table SAE, and its model's of the table Model.
    contexts, batch_tokens
        How text was laid out for the model.
    parameters
        Digests of the model's parameters, as deep as any part of the atlas stores them.
    """

    name: str
    sae: Part
    row: Mapping[str, Any]
    model: Mapping[str, Any]
    contexts: ContextSettings
    batch_tokens: int
    parameters: tuple[str, ...]


def open_sae_record(sound: Sound, name: str) -> SaeRecord:
    """Find how an SAE was ingested.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.
    """
    if name not in sound.saes:
        raise UnknownName("SAE", name, known=sound.saes, hint="`atlas list` shows them.")
    sae = sound.parts[f"sae/{name}"]
    (row,) = sae.table("SAE").to_pylist()
    (model,) = sae.table("Model").to_pylist()
    said = sae.manifest.settings
    contexts = ContextSettings(context_size=said["context_size"], prepend_bos=said["prepend_bos"])
    digests = stored_digests((p.manifest for p in sound.parts.values()), model["name"])
    return SaeRecord(name, sae, row, model, contexts, int(said["batch_tokens"]), digests)


def reopen_model(
    ingested: SaeRecord,
    given: Any = None,
    *,
    hooks: Sequence[str],
    tokenizer: Any = None,
    device: str = "auto",
) -> LanguageModel:
    """Open a model as deep as is needed, and make sure it is the one that an SAE was ingested with.

    Parameters
    ----------
    ingested
        The SAE.
    given
        The model, by name, folder or in memory; the one that the atlas notes if None.
    hooks
        Places that will be read.
    tokenizer
        The tokenizer of a model in memory.
    device
        Where it runs, if it is opened here.

    Raises
    ------
    BadInput
        If the model lived in memory, and none is given.
    Mismatch
        If it is another model, or has another tokenizer.
    UnknownName, Missing, OutOfRoom
        As ``open_model`` does.
    """
    return reopen(
        ingested.model, given, noted=f"{ingested.name} was ingested", hooks=hooks,
        tokenizer=tokenizer, device=device, parameters=ingested.parameters,
    )  # fmt: skip


def reopen(
    model: Mapping[str, Any],
    given: Any = None,
    *,
    noted: str,
    hooks: Sequence[str],
    tokenizer: Any = None,
    device: str = "auto",
    parameters: Sequence[str] = (),
) -> LanguageModel:
    """Open a model as deep as is needed, and make sure it is the one that an atlas notes.

    Parameters
    ----------
    model
        Its row of the table Model.
    noted
        What was done with it, as a clause: ``"top was ingested"``.
    parameters
        Digests of its parameters that parts of the atlas store.
    given, hooks, tokenizer, device
        As ``reopen_model`` has them, which raises the same.
    """
    if isinstance(given, LanguageModel):
        opened = given
        for hook in hooks:
            opened.site(hook)
    else:
        opened = open_model(
            _source(model, noted) if given is None else given,
            name=model["name"], tokenizer=tokenizer, hooks=hooks, device=device, dtype=model["dtype"],
        )  # fmt: skip
    called = given if isinstance(given, str | Path) else opened.name
    if opened.weights != model["weights"] or opened.is_another(parameters):
        raise Mismatch(
            f"{called} is not the model that {noted} with (its weights differ); name that one with "
            "--model."
        )
    if opened.tokenizer_key != model["tokenizer"]:
        raise Mismatch(f"{called} has another tokenizer than {noted} with; give that one.")
    return opened


def _source(model: Mapping[str, Any], noted: str) -> str:
    if model["source"] == "memory":
        raise BadInput(
            f"The model {model['name']} lived in memory when {noted}; give it with --model, or model= in "
            "Python."
        )
    return str(model["source"])
