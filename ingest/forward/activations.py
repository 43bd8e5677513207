"""The activations of a model at some sites, batch by batch."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from ingest.text.tokenization import Batch, TokenizedBlock

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel

__all__ = ["activations"]


def activations(
    model: "LanguageModel", text: TokenizedBlock, *, hooks: Sequence[str]
) -> Iterator[tuple[Batch, dict[str, torch.Tensor]]]:
    """Run the model over a block and yield each batch with its activations.

    Parameters
    ----------
    model
        The model, loaded up to the deepest site.
    text
        The block.
    hooks
        The sites.

    Yields
    ------
    tuple
        The batch, and by hook a tensor (contexts, width of the batch, width of the
        site) on the model's device. Its values at padding are undefined.
    """
    for batch in text.batches:
        ids, mask = map(torch.from_numpy, (batch.input_ids, batch.attention_mask))
        yield batch, model.run(ids, mask, hooks=hooks)
