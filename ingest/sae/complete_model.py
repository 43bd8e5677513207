"""The complete model of an SAE of an atlas, with its head."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlas.errors import BadInput
from ingest.model.language_model import LanguageModel
from ingest.model.next_token import NextTokenModel, open_next_token_model
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import SaeRecord, open_sae_record, reopen_model, reopen_sae
from ingest.text.context_text import ContextText
from ingest.text.corpus import Corpus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atlas.disk.folder import Folder, Sound

__all__ = ["SaeWithModel", "open_with_model", "reopen_complete_model"]


@dataclass(frozen=True, eq=False)
class SaeWithModel:
    """An SAE of an atlas with its complete model, its text, and other SAEs of that model.

    Parameters
    ----------
    record
        How the SAE was ingested.
    sae, others
        The SAE, and the others.
    model, complete
        The model without and with its head.
    text
        The text of the atlas, in the contexts and batches of the SAE.
    """

    record: SaeRecord
    sae: Autoencoder
    others: tuple[Autoencoder, ...]
    model: LanguageModel
    complete: NextTokenModel
    text: ContextText


def open_with_model(
    folder: "Folder",
    sound: "Sound",
    name: str,
    *,
    others: "Sequence[str]" = (),
    opened: "Sequence[Autoencoder]" = (),
    model: Any = None,
    tokenizer: object | None = None,
    device: str = "auto",
) -> SaeWithModel:
    """Open an SAE of an atlas with its complete model and its text.

    Parameters
    ----------
    folder, sound
        The atlas, and its sound parts.
    name
        The SAE.
    others
        Other SAEs of the same model.
    opened
        SAEs that are already open, such as those in memory.
    model, tokenizer, device
        As for ``reopen_complete_model``.

    Raises
    ------
    BadInput, UnknownName, Mismatch, Missing, OutOfSpace
        As ``open_sae_record``, ``reopen_sae`` and ``reopen_complete_model`` do.
    """
    record = open_sae_record(sound, name)
    saes = [reopen_sae(open_sae_record(sound, one).row, opened) for one in (name, *others)]
    saes[0].require_one_site("An edit of its features")
    small, complete = reopen_complete_model(
        record,
        model,
        hooks=list(dict.fromkeys(hook for sae in saes for hook in sae.info.hooks)),
        tokenizer=tokenizer,
        device=device,
    )
    sae, *rest = (one.to(small.device) for one in saes)
    text = ContextText(
        Corpus.open(folder.corpus_file), small.tokenizer, record.contexts, record.batch_tokens
    )
    return SaeWithModel(record, sae, tuple(rest), small, complete, text)


def reopen_complete_model(
    ingested: SaeRecord,
    model_or_name: Any = None,
    *,
    hooks: "Sequence[str]" = (),
    tokenizer: object | None = None,
    device: str = "auto",
) -> tuple[LanguageModel, NextTokenModel]:
    """Open a model with all its blocks and its head, and check that an SAE was ingested with it.

    Parameters
    ----------
    ingested
        The SAE.
    model_or_name
        The model, by name, folder or in memory; the one that the atlas records if None.
    hooks
        Sites at which the model without head is read; the site of the SAE if empty.
    tokenizer
        The tokenizer of a model in memory.
    device
        The device of a model that is opened here.

    Raises
    ------
    BadInput
        If the model was in memory at ingest and none is passed, or it is passed without its head.
    Mismatch
        If it is another model, has another tokenizer, or no head.
    UnknownName, Missing, OutOfSpace
        As ``open_model`` does.
    """
    if isinstance(model_or_name, LanguageModel):
        raise BadInput(
            f"{model_or_name.name} was passed as a LanguageModel, which has no head; pass its name, its folder, or "
            "the causal language model of transformers."
        )
    model = reopen_model(
        ingested,
        model_or_name,
        hooks=hooks or [str(ingested.row["hook"])],
        tokenizer=tokenizer,
        device=device,
    )
    source = ingested.model["source"] if model_or_name is None else model_or_name
    return model, open_next_token_model(model, source)
