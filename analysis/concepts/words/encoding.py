"""Activations of words: each token is encoded by itself, then the tokens of a word are combined.

BOS, padding and other special tokens are never part of a word. An SAE that was trained on
single positions reads single positions here too; the mean of several positions is not such a
vector (seed 004 encoded the mean of four, padding included).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from analysis.concepts.settings import Pool
from analysis.concepts.words.contexts import WordContext
from ingest.forward.site_vectors import activations
from ingest.text.corpus import Document
from ingest.text.tokenization import ContextSettings, TokenizedBlock, tokenize

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["Encoded", "Matrix", "SaeActivations", "encode_words", "pool_rows", "word_tokens"]

Floats: TypeAlias = NDArray[np.float32]
Codes: TypeAlias = "sparse.csr_array[Any, tuple[int, int]]"
Matrix: TypeAlias = "NDArray[np.float32] | Codes"

BLOCK = 2000
"""Contexts that are tokenized together."""


@dataclass(frozen=True, eq=False)
class SaeActivations:
    """Activations of an SAE on words.

    Parameters
    ----------
    codes
        Sparse, (contexts, d_sae).
    layer, reconstruction
        float32, (contexts, d_in). The vectors that the SAE reads, and their reconstruction.
    """

    codes: Codes
    layer: Floats
    reconstruction: Floats

    @property
    def error(self) -> Floats:
        """The reconstruction error: layer - reconstruction."""
        return self.layer - self.reconstruction


@dataclass(frozen=True, eq=False)
class Encoded:
    """Activations of words in their contexts.

    Parameters
    ----------
    rows
        int64, (contexts,). Which of the passed contexts each row is; contexts whose word has no
        token are excluded.
    tokens
        int64, (contexts,). Number of tokens of the word.
    saes
        By name of the SAE.
    sites
        By hook name, float32 of shape (contexts, width).
    """

    rows: NDArray[np.int64]
    tokens: NDArray[np.int64]
    saes: Mapping[str, SaeActivations]
    sites: Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class _Batch:
    """The tokens of words in one batch: their rows in the block, and what was read of each."""

    rows: NDArray[np.int64]
    sites: dict[str, Floats]
    codes: dict[str, Codes]
    layers: dict[str, Floats]
    reconstructions: dict[str, Floats]


def encode_words(
    model: "LanguageModel",
    contexts: Sequence[WordContext],
    *,
    layout: ContextSettings,
    batch_tokens: int,
    saes: "Sequence[Autoencoder]",
    hooks: Sequence[str],
    pool: Pool,
) -> Encoded:
    """Run the model on words, encode each of their tokens, and combine the tokens of a word.

    Parameters
    ----------
    model
        The model, loaded up to the deepest site.
    contexts
        The words in their contexts.
    layout, batch_tokens
        Contexts and batches of the model, as for the text of the SAEs.
    saes
        SAEs that read the model.
    hooks
        Further sites that are read without an SAE.
    pool
        How the tokens of a word are combined.

    Raises
    ------
    Mismatch
        If an SAE does not fit the model, or the tokenizer reports no character offsets.
    BadActivations
        If an activation is NaN or Inf.
    OutOfSpace
        If a batch does not fit into memory.
    """
    needed = list(dict.fromkeys([*hooks, *(hook for sae in saes for hook in sae.info.hooks)]))
    blocks = []
    for first in range(0, len(contexts), BLOCK):
        some = contexts[first : first + BLOCK]
        documents = [Document(i, context.text) for i, context in enumerate(some)]
        text = tokenize(documents, model.tokenizer, settings=layout, batch_tokens=batch_tokens)
        inside = word_tokens(text, some)
        batches = list(_read(model, text, inside, needed=needed, hooks=hooks, saes=saes))
        blocks.append(_pooled(batches, text.tokens.document, first, pool=pool))
    return _joined(blocks, saes, {hook: model.site(hook).width for hook in hooks})


def word_tokens(text: TokenizedBlock, contexts: Sequence[WordContext]) -> NDArray[np.bool_]:
    """Return which tokens of a block overlap the word of their context; bool, (tokens,)."""
    start = np.array([context.start for context in contexts], dtype=np.int64)
    end = np.array([context.end for context in contexts], dtype=np.int64)
    document = text.tokens.document
    overlap: NDArray[np.bool_] = (text.tokens.end > start[document]) & (
        text.tokens.start < end[document]
    )
    return overlap


def _read(
    model: "LanguageModel",
    text: TokenizedBlock,
    inside: NDArray[np.bool_],
    *,
    needed: Sequence[str],
    hooks: Sequence[str],
    saes: "Sequence[Autoencoder]",
) -> Iterator[_Batch]:
    """Run the model on each batch, and read the tokens of words."""
    for batch, read in activations(model, text, hooks=needed):
        keep = batch.keep.copy()
        keep[keep] = inside[batch.rows]
        if not keep.any():
            continue
        mask = torch.from_numpy(keep)
        ids = torch.from_numpy(batch.input_ids)
        found = _Batch(batch.rows[inside[batch.rows]], {}, {}, {}, {})
        for hook in hooks:
            found.sites[hook] = read[hook][mask.to(read[hook].device)].float().cpu().numpy()
        for sae in saes:
            x = sae.reads(read, mask, ids)
            indptr, indices, values, decoded = sae.codes_and_reconstruction(x)
            shape = (len(x), sae.info.d_sae)
            name = sae.info.name
            found.codes[name] = sparse.csr_array(
                (values, indices.astype(np.int64), indptr), shape=shape
            )
            found.layers[name] = x.float().cpu().numpy()
            found.reconstructions[name] = decoded.float().cpu().numpy()
        yield found


@dataclass(frozen=True, eq=False)
class _Pooled:
    rows: NDArray[np.int64]
    tokens: NDArray[np.int64]
    values: dict[tuple[str, str], Matrix]


def _pooled(
    batches: Sequence[_Batch], document: NDArray[np.int64], first: int, *, pool: Pool
) -> _Pooled:
    """Combine the tokens of each word of a block; rows are numbered from ``first``."""
    if not batches:
        return _Pooled(np.zeros(0, np.int64), np.zeros(0, np.int64), {})
    token = np.concatenate([batch.rows for batch in batches])
    order = np.argsort(token, kind="stable")
    word, counts = np.unique(document[token[order]], return_counts=True)
    ends = np.cumsum(counts)
    values: dict[tuple[str, str], Matrix] = {}
    for kind in ("sites", "codes", "layers", "reconstructions"):
        for name in getattr(batches[0], kind):
            parts = [getattr(batch, kind)[name] for batch in batches]
            joined = sparse.vstack(parts, "csr") if kind == "codes" else np.concatenate(parts)
            values[kind, name] = pool_rows(joined[order], ends, pool=pool)
    return _Pooled(word.astype(np.int64) + first, counts.astype(np.int64), values)


def pool_rows(rows: Matrix, ends: NDArray[np.int64], *, pool: Pool) -> Matrix:
    """Combine consecutive rows.

    Parameters
    ----------
    rows
        (tokens, units), dense or sparse; of the activations of one word after another.
    ends
        int64, (words,). The row after the last token of each word; each word has a token.
    pool
        ``last``, ``first``, ``mean`` or ``max``.

    Returns
    -------
    (words, units), dense or sparse as ``rows``.

    Examples
    --------
    >>> pool_rows(np.array([[1.0], [3.0], [5.0]], np.float32), np.array([2, 3]), pool="mean")
    array([[2.],
           [5.]], dtype=float32)
    """
    starts = np.concatenate([[0], ends[:-1]])
    if pool in ("last", "first"):
        chosen: Any = rows[ends - 1 if pool == "last" else starts]
        matrix: Matrix = chosen
        return matrix
    if isinstance(rows, np.ndarray):
        if pool == "max":
            return np.asarray(np.maximum.reduceat(rows, starts, axis=0), dtype=np.float32)
        total = np.add.reduceat(rows, starts, axis=0, dtype=np.float64)
        return np.asarray(total / (ends - starts)[:, None], dtype=np.float32)
    words = np.repeat(np.arange(len(ends)), ends - starts)
    if pool == "mean":
        share = (1 / (ends - starts))[words].astype(np.float32)
        by_word = sparse.csr_array(
            (share, (words, np.arange(len(words)))), shape=(len(ends), len(words))
        )
        return sparse.csr_array(by_word @ rows)
    return _largest(rows, words, len(ends))


def _largest(rows: Codes, words: NDArray[np.int64], count: int) -> Codes:
    """Return the largest code of each word and unit; codes are never below 0."""
    units = rows.shape[1]
    key = words[np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))] * units + rows.indices
    if not len(key):
        empty: Any = sparse.csr_array((count, units), dtype=np.float32)
        none: Codes = empty
        return none
    order = np.argsort(key, kind="stable")
    keys, first = np.unique(key[order], return_index=True)
    values = np.maximum.reduceat(rows.data[order], first)
    return sparse.csr_array((values, (keys // units, keys % units)), shape=(count, units))


def _joined(
    blocks: Sequence[_Pooled], saes: "Sequence[Autoencoder]", widths: Mapping[str, int]
) -> Encoded:
    """Join the blocks; without any word that has a token, all arrays have no rows."""
    some = [block for block in blocks if len(block.rows)]

    def rows(kind: str, name: str, width: int) -> Floats:
        empty: Any = np.zeros((0, width), np.float32)
        return np.concatenate([empty, *(block.values[kind, name] for block in some)])

    def joined_codes(sae: "Autoencoder") -> Codes:
        parts: list[Any] = [block.values["codes", sae.info.name] for block in some]
        empty: Any = sparse.csr_array((0, sae.info.d_sae), dtype=np.float32)
        joined: Codes = sparse.vstack([empty, *parts], "csr")
        return joined

    activations_of = {
        sae.info.name: SaeActivations(
            joined_codes(sae),
            rows("layers", sae.info.name, sae.info.d_in),
            rows("reconstructions", sae.info.name, sae.info.d_in),
        )
        for sae in saes
    }
    empty = np.zeros(0, np.int64)
    return Encoded(
        np.concatenate([empty, *(block.rows for block in some)]),
        np.concatenate([empty, *(block.tokens for block in some)]),
        activations_of,
        {hook: rows("sites", hook, widths[hook]) for hook in widths},
    )
