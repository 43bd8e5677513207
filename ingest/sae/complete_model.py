"""The complete model of an SAE of an atlas, with its head."""

from typing import TYPE_CHECKING, Any

from atlas.errors import BadInput
from ingest.model.language_model import LanguageModel
from ingest.model.next_token import NextTokenModel, open_next_token_model
from ingest.sae.record import SaeRecord, reopen_model

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["reopen_complete_model"]


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
