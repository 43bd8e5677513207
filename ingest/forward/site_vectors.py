"""The vectors at a site: one per token id at the embedding, otherwise one per token on disk."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from atlas.amounts import counted
from atlas.disk.temp_storage import check_space, mapped_array
from atlas.errors import Mismatch
from atlas.progress import Progress
from ingest.text.corpus import Corpus
from ingest.text.tokenization import Batch, ContextSettings, TokenizedBlock, tokenize

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel

__all__ = ["EMBEDDING", "activations", "by_id", "by_token"]


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


#: The site whose vectors are a function of the token id.
EMBEDDING = "hook_embed"

_CHUNK = 4096


def by_id(model: "LanguageModel", ids: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return the embedding of each token id; float32, (ids, d_model)."""
    vectors = [np.zeros((0, model.site(EMBEDDING).width), np.float32)]
    for i in range(0, len(ids), _CHUNK):
        chunk = torch.from_numpy(ids[i : i + _CHUNK].astype(np.int64))[:, None]
        read = model.run(chunk, torch.ones_like(chunk), hooks=[EMBEDDING])[EMBEDDING]
        vectors.append(read[:, 0].float().cpu().numpy())
    return np.concatenate(vectors)


def by_token(
    model: "LanguageModel",
    corpora: Sequence[Corpus],
    *,
    contexts: ContextSettings,
    batch_tokens: int,
    hooks: Sequence[str],
    lengths: Sequence[int],
    into: Path,
    progress: Progress,
) -> dict[str, NDArray[np.float32]]:
    """Run the model over some texts and write the vectors at each site to disk, one per token.

    Parameters
    ----------
    model
        The model, loaded up to the deepest site.
    corpora
        The texts, one after another.
    contexts, batch_tokens
        The contexts and batches of the codes, so that the vectors are those that the SAE read.
    hooks
        The sites.
    lengths
        Number of tokens to use of each text, from its beginning.
    into
        A folder for the files; the caller removes it.
    progress
        Reports the size of the files, and shows how far the work is.

    Returns
    -------
    dict
        By hook, float32 of shape (tokens, width), mapped from disk.

    Raises
    ------
    OutOfSpace
        If the disk has no room for them.
    Mismatch
        If a text has fewer tokens than its codes.
    """
    rows = sum(lengths)
    size = 4 * rows * sum(model.site(hook).width for hook in hooks)
    progress.report(
        f"The vectors of {rows:,} tokens at {counted(len(hooks), 'site')} take {size / 2**30:.1f} GiB of disk "
        "while they are probed."
    )
    check_space(
        into, size, what="The vectors", todo="use fewer `tokens`, or probe fewer sites at once"
    )
    vectors: dict[str, NDArray[np.float32]] = {
        hook: mapped_array(into / f"{hook}.npy", (rows, model.site(hook).width), np.float32)
        for hook in hooks
    }
    begin = 0
    title = f"{model.name}: vectors at {counted(len(hooks), 'site')}"
    with progress.stage(title, total=rows, unit="tokens") as stage:
        for corpus, length in zip(corpora, lengths, strict=True):
            end, at = begin + length, begin
            for number in range(len(corpus)):
                if at >= end:
                    break
                text = tokenize(
                    corpus.block(number),
                    model.tokenizer,
                    settings=contexts,
                    batch_tokens=batch_tokens,
                )
                for batch, read in activations(model, text, hooks=hooks):
                    row = at + batch.rows
                    inside = row < end
                    keep = torch.from_numpy(batch.keep).to(model.device)
                    for hook in hooks:
                        vectors[hook][row[inside]] = read[hook][keep].float().cpu().numpy()[inside]
                stage.advance(min(len(text.tokens), end - at))
                at += len(text.tokens)
            if at < end:
                raise Mismatch(
                    f"The text has {at - begin:,} tokens, and its codes have {length:,}. Ingest the SAE again "
                    "with `replace=True`."
                )
            begin = end
    return vectors
