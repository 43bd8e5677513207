"""Records of how the SAEs of an atlas were ingested, and reopening of their models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.disk.folder import Sound
from atlas.disk.parts import Part, stored_digests
from atlas.errors import BadInput, Mismatch, UnknownName
from ingest.model.language_model import LanguageModel, open_model
from ingest.sae.autoencoder import Autoencoder, open_sae
from ingest.text.tokenization import ContextSettings

__all__ = ["SaeRecord", "open_sae_record", "reopen", "reopen_model", "reopen_sae", "written_hook"]


@dataclass(frozen=True, eq=False)
class SaeRecord:
    """An SAE of an atlas, its model, and the contexts and batches of its ingest.

    Parameters
    ----------
    name
        Its name in the atlas.
    sae
        Its part of kind ``sae``.
    row, model
        Its row of the table SAE, and the row of its model in the table Model.
    contexts, batch_tokens
        How text was split into contexts and batches.
    parameters
        Digests of the model's parameters, to the greatest depth that a part of the atlas stores.
    """

    name: str
    sae: Part
    row: Mapping[str, Any]
    model: Mapping[str, Any]
    contexts: ContextSettings
    batch_tokens: int
    parameters: tuple[str, ...]

    def check_features(self, features: Sequence[int]) -> None:
        """Check that the SAE has features of these indices.

        Raises
        ------
        UnknownName
            If it has no feature of an index.
        """
        width = int(self.row["d_sae"])
        for feature in features:
            if not 0 <= feature < width:
                raise UnknownName(
                    "feature",
                    f"{self.name}/{feature}",
                    hint=f"The features of {self.name} are {self.name}/0 to {self.name}/{width - 1}.",
                )


def open_sae_record(sound: Sound, name: str) -> SaeRecord:
    """Return the record of how an SAE was ingested.

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
    settings = sae.manifest.settings
    contexts = ContextSettings(
        context_size=settings["context_size"], prepend_bos=settings["prepend_bos"]
    )
    digests = stored_digests((p.manifest for p in sound.parts.values()), model["name"])
    return SaeRecord(name, sae, row, model, contexts, int(settings["batch_tokens"]), digests)


def written_hook(row: Mapping[str, Any]) -> str:
    """Return the site whose space the decoder vectors of an SAE are in.

    It is the site that it reads, or the output site of a transcoder.

    Parameters
    ----------
    row
        Its row of the table SAE.
    """
    return str(row.get("output_hook") or row["hook"])


def reopen_sae(row: Mapping[str, Any], opened: Sequence[Autoencoder] = ()) -> Autoencoder:
    """Open an SAE of an atlas, and check that its weights are those that were ingested.

    Parameters
    ----------
    row
        Its row of the table SAE.
    opened
        SAEs that are already open; others are opened from their stored source.

    Raises
    ------
    BadInput
        If it was in memory at ingest and is not open, or its source cannot be used.
    Mismatch
        If its source now has other weights.
    Missing, OutOfSpace
        As ``open_sae`` does.
    """
    for sae in opened:
        if sae.info.name == row["name"] and sae.info.weights == row["weights"]:
            return sae
    if row["source"] == "memory":
        raise BadInput(
            f"The SAE {row['name']} was in memory when it was ingested; pass it in Python with opened=."
        )
    sae = open_sae(row["source"], name=row["name"])
    if sae.info.weights != row["weights"]:
        raise Mismatch(
            f"The SAE {row['name']} now has other weights in {row['source']} than at ingest; ingest it again "
            "with `replace=True`."
        )
    return sae


def reopen_model(
    ingested: SaeRecord,
    model_or_name: Any = None,
    *,
    hooks: Sequence[str],
    tokenizer: Any = None,
    device: str = "auto",
) -> LanguageModel:
    """Open a model to the required depth, and check that an SAE was ingested with it.

    Parameters
    ----------
    ingested
        The SAE.
    model_or_name
        The model, by name, folder or in memory; the one that the atlas records if None.
    hooks
        Sites that will be read.
    tokenizer
        The tokenizer of a model in memory.
    device
        The device of a model that is opened here.

    Raises
    ------
    BadInput
        If the model was in memory at ingest, and none is passed.
    Mismatch
        If it is another model, or has another tokenizer.
    UnknownName, Missing, OutOfSpace
        As ``open_model`` does.
    """
    return reopen(
        ingested.model,
        model_or_name,
        noted=f"{ingested.name} was ingested",
        hooks=hooks,
        tokenizer=tokenizer,
        device=device,
        parameters=ingested.parameters,
    )


def reopen(
    model: Mapping[str, Any],
    model_or_name: Any = None,
    *,
    noted: str,
    hooks: Sequence[str],
    tokenizer: Any = None,
    device: str = "auto",
    parameters: Sequence[str] = (),
) -> LanguageModel:
    """Open a model to the required depth, and check that it is the one that an atlas records.

    Parameters
    ----------
    model
        Its row of the table Model.
    noted
        How the model was used, as a clause for messages: ``"top was ingested"``.
    parameters
        Digests of its parameters that parts of the atlas store.
    model_or_name, hooks, tokenizer, device
        As in ``reopen_model``, which raises the same errors.
    """
    if isinstance(model_or_name, LanguageModel):
        opened = model_or_name
        for hook in hooks:
            opened.site(hook)
    else:
        opened = open_model(
            _source(model, noted) if model_or_name is None else model_or_name,
            name=model["name"],
            tokenizer=tokenizer,
            hooks=hooks,
            device=device,
            dtype=model["dtype"],
            cached_digests=True,
        )
    label = model_or_name if isinstance(model_or_name, str | Path) else opened.name
    if opened.weights != model["weights"] or opened.differs_from(parameters):
        raise Mismatch(
            f"{label} is not the model with which {noted} (its weights differ). Name the original model "
            "with `model`."
        )
    if opened.tokenizer_key != model["tokenizer"]:
        raise Mismatch(
            f"The tokenizer of {label} is not the one with which {noted}. Use the original tokenizer."
        )
    return opened


def _source(model: Mapping[str, Any], noted: str) -> str:
    if model["source"] == "memory":
        raise BadInput(
            f"The model {model['name']} was in memory when {noted}. Pass it with `model`."
        )
    return str(model["source"])
