"""The text of an atlas, split into contexts and batches as for one of its SAEs; and prompts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlas.errors import BadInput
from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings, TokenizedBlock, tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ContextText", "prompt_ids"]


@dataclass(frozen=True, eq=False)
class ContextText:
    """The text of an atlas, split into contexts as for one of its SAEs.

    Parameters
    ----------
    corpus
        The documents.
    tokenizer
        The tokenizer of the model.
    contexts
        How text is split into contexts.
    batch_tokens
        Most tokens of a batch.
    """

    corpus: Corpus
    tokenizer: "PreTrainedTokenizerBase"
    contexts: ContextSettings
    batch_tokens: int

    def block(self, number: int) -> TokenizedBlock:
        """Return a block."""
        return tokenize(
            self.corpus.block(number),
            self.tokenizer,
            settings=self.contexts,
            batch_tokens=self.batch_tokens,
        )


def prompt_ids(tokenizer: Any, prompt: str, *, bos: bool) -> list[int]:
    """Return the token ids of a prompt.

    Parameters
    ----------
    tokenizer
        The tokenizer of the model.
    prompt
        The text.
    bos
        Whether the ids begin with BOS, as the contexts of an SAE do.

    Raises
    ------
    BadInput
        If the prompt has no token.
    """
    ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    if not ids:
        raise BadInput(f"The prompt {prompt!r} has no token; pass a text of one token or more.")
    return [tokenizer.bos_token_id, *ids] if bos else ids
