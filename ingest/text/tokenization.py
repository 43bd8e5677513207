"""Tokenization: convert the documents of a block to the contexts that a model reads.

Documents never share a context. All results depend on the block alone, so codes
do not depend on how the work is divided.
"""

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atlas.amounts import counted
from atlas.errors import BadInput, Mismatch
from ingest.codes.store import Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

    from ingest.text.corpus import Document

__all__ = [
    "Batch",
    "ContextSettings",
    "TokenizedBlock",
    "check_tokenizer",
    "special_ids",
    "token_batches",
    "token_counts",
    "token_texts",
    "tokenize",
]

# Padding is masked, so any valid id works. 0 is in every vocabulary, but the pad
# token of some tokenizers is outside their model's embedding.
PAD_ID = 0


@dataclass(frozen=True)
class ContextSettings:
    """How text is split into contexts.

    Parameters
    ----------
    context_size
        Most tokens of a context, BOS included.
    prepend_bos
        Whether each context begins with BOS.

    Raises
    ------
    BadInput
        If a context has no room for a token of text.
    """

    context_size: int
    prepend_bos: bool

    def __post_init__(self) -> None:
        if self.text_size < 1:
            bos = ", one of them BOS" if self.prepend_bos else ""
            raise BadInput(
                f"A context size of {counted(self.context_size, 'token')}{bos} leaves no room for text. Choose a "
                "larger context size."
            )

    @property
    def text_size(self) -> int:
        """Most tokens of text in a context."""
        return self.context_size - self.prepend_bos


@dataclass(frozen=True)
class Batch:
    """Contexts that go through the model together, right-padded to the longest one.

    Parameters
    ----------
    input_ids
        int64, (contexts, width).
    attention_mask
        int64, (contexts, width). 1 at BOS and text, 0 at padding.
    keep
        bool, (contexts, width). True at the tokens that are counted: text without
        special tokens.
    rows
        int64, one entry for each true value of ``keep`` in row-major order: the row
        of the token in the ``Tokens`` of the block.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    keep: NDArray[np.bool_]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class TokenizedBlock:
    """The counted tokens of a block in corpus order, and the batches that contain them.

    Each token is in exactly one batch.
    """

    tokens: Tokens
    batches: tuple[Batch, ...]


def check_tokenizer(tokenizer: "PreTrainedTokenizerBase", *, settings: ContextSettings) -> None:
    """Check that a tokenizer meets the requirements of ``tokenize``.

    Raises
    ------
    Mismatch
        If it returns no character offsets, or has no BOS although the settings need one.
    """
    _backend(tokenizer)
    if settings.prepend_bos and tokenizer.bos_token_id is None:
        raise Mismatch(
            f"Contexts must begin with BOS, but the tokenizer {_name(tokenizer)} has no BOS token. If its "
            "model was trained with another token at that position (often EOS), set "
            "`tokenizer.bos_token = tokenizer.eos_token`. Otherwise omit BOS."
        )


def tokenize(
    documents: "Sequence[Document]",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    settings: ContextSettings,
    batch_tokens: int = 4096,
) -> TokenizedBlock:
    """Tokenize the documents of a block, and split them into contexts and batches.

    A document longer than a context continues in the next one. Special tokens that
    occur in the text are input to the model but are not counted. At the beginning of
    every context after the first of a document they are excluded from the input too,
    so ``Tokens.position`` falls exactly where a new context begins. A context of
    special tokens alone is excluded.

    Parameters
    ----------
    documents
        The documents, in corpus order.
    tokenizer
        A fast tokenizer of transformers.
    settings
        Size of the contexts, and whether they begin with BOS.
    batch_tokens
        Most tokens of a batch, padding included; a longer context is a batch alone.

    Returns
    -------
    TokenizedBlock
        ``start`` and ``end`` of its tokens are in Unicode code points of the document,
        as the tokenizer reports them. The space before a word may or may not be covered.
        Each token of a character that takes several covers the character. A space that
        the tokenizer adds before the text covers the first character. The batch of the
        longest contexts is last.

    Raises
    ------
    Mismatch
        If the tokenizer returns no character offsets, or has no BOS although the settings
        need one.
    """
    check_tokenizer(tokenizer, settings=settings)
    text = _encode(documents, tokenizer)
    starts, lengths = _contexts(text, settings.text_size)
    tokens = _tokens(text, starts, lengths, documents, bos=int(settings.prepend_bos))
    layout = _Layout(
        text, starts, lengths, tokenizer.bos_token_id if settings.prepend_bos else None
    )
    return TokenizedBlock(tokens, tuple(layout.batches(batch_tokens)))


def token_batches(
    documents: "Sequence[Document]",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    settings: ContextSettings,
    batch_tokens: int = 4096,
) -> tuple[Batch, ...]:
    """Return the batches of ``tokenize``, without the time that the offsets of tokens take.

    Parameters
    ----------
    documents, tokenizer, settings, batch_tokens
        See ``tokenize``.

    Raises
    ------
    Mismatch
        As ``tokenize`` does.
    """
    check_tokenizer(tokenizer, settings=settings)
    text = _encode(documents, tokenizer, offsets=False)
    bos = tokenizer.bos_token_id if settings.prepend_bos else None
    layout = _Layout(text, *_contexts(text, settings.text_size), bos)
    return tuple(layout.batches(batch_tokens))


def token_counts(documents: Sequence[str], tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the number of tokens of each text, without special tokens.

    Raises
    ------
    Mismatch
        If the tokenizer returns no character offsets.
    """
    special = special_ids(tokenizer)
    encodings = _backend(tokenizer).encode_batch_fast(list(documents), add_special_tokens=False)
    ids = [e.ids for e in encodings]
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    flat = np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=int(lengths.sum()))
    counted = np.concatenate([[0], np.cumsum(~np.isin(flat, special))])
    ends = np.cumsum(lengths)
    counts: list[int] = (counted[ends] - counted[ends - lengths]).tolist()
    return counts


def token_texts(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> list[str]:
    """Return the text of each token, with its leading space.

    Bytes that do not form a complete character are shown as ``<0xE4>``, and an id that
    is not in the vocabulary as ``<7>``.
    """
    backend = _backend(tokenizer)
    added = {number: token.content for number, token in tokenizer.added_tokens_decoder.items()}
    parts = b"".join(p.__getstate__() for p in (backend.decoder, backend.pre_tokenizer) if p)
    read = _byte_token_text if b'"ByteLevel"' in parts else _piece_text
    texts = []
    for number in map(int, ids):
        token = added.get(number) or backend.id_to_token(number)
        if token is None:
            texts.append(f"<{number}>")
        else:
            texts.append(token if number in added else read(token))
    return texts


@dataclass(frozen=True)
class _Encoded:
    """All tokens of a block in corpus order, special ones included."""

    ids: NDArray[np.int64]
    offsets: NDArray[np.int32]  # (tokens, 2); empty if they were not requested
    ends: NDArray[np.int64]  # (documents,): where the tokens of each end
    lengths: NDArray[np.int64]  # (documents,)
    keep: NDArray[np.bool_]


def _encode(
    documents: "Sequence[Document]", tokenizer: "PreTrainedTokenizerBase", *, offsets: bool = True
) -> _Encoded:
    texts = [d.text for d in documents]
    # The backend is called directly: transformers' own call takes twice as long on short documents.
    backend = _backend(tokenizer)
    encode = backend.encode_batch if offsets else backend.encode_batch_fast
    encodings = encode(texts, add_special_tokens=False)
    lists = [e.ids for e in encodings]
    lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    total = int(lengths.sum())
    ids = np.fromiter(chain.from_iterable(lists), dtype=np.int64, count=total)
    known = encodings if offsets else []
    pairs = chain.from_iterable(chain.from_iterable(e.offsets for e in known))
    found = np.fromiter(pairs, dtype=np.int32, count=2 * total * offsets).reshape(-1, 2)
    keep = ~np.isin(ids, special_ids(tokenizer))
    return _Encoded(ids, found, np.cumsum(lengths), lengths, keep)


def _contexts(text: _Encoded, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first token and the number of tokens of each context of the block."""
    total = len(text.ids)
    # The first counted token at or after each token.
    positions = np.where(text.keep, np.arange(total), total)
    following = np.minimum.accumulate(positions[::-1])[::-1].tolist()
    starts: list[int] = []
    ends: list[int] = []
    for begin, end in zip((text.ends - text.lengths).tolist(), text.ends.tolist(), strict=True):
        at = begin
        while at < end:
            starts.append(at)
            ends.append(min(at + size, end))
            at = following[at + size] if at + size < end else end
    first = np.array(starts, dtype=np.int64)
    last = np.array(ends, dtype=np.int64)
    counted = np.concatenate([[0], np.cumsum(text.keep)])
    nonempty = counted[last] > counted[first]
    return first[nonempty], (last - first)[nonempty]


def _tokens(
    text: _Encoded,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    documents: "Sequence[Document]",
    *,
    bos: int,
) -> Tokens:
    """Return the counted tokens; each is in a context."""
    local = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    seen = np.repeat(starts, lengths) + local
    counted = text.keep[seen]
    rows = seen[counted]
    numbers = np.array([d.number for d in documents], dtype=np.int64)
    before: NDArray[np.int64] = (
        np.cumsum(text.keep) - text.keep
    )  # counted tokens before each, in the block
    first = np.concatenate([before, [text.keep.sum()]])[text.ends - text.lengths]
    return Tokens(
        token_id=text.ids[rows].astype(np.int32),
        document=np.repeat(numbers, text.lengths)[rows],
        index=(before - np.repeat(first, text.lengths))[rows].astype(np.int32),
        position=(local[counted] + bos).astype(np.int32),
        start=np.ascontiguousarray(text.offsets[rows, 0]),
        end=np.ascontiguousarray(text.offsets[rows, 1]),
    )


@dataclass(frozen=True)
class _Layout:
    """The contexts of a block, to be grouped into batches."""

    text: _Encoded
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    bos: int | None

    def batches(self, batch_tokens: int) -> list[Batch]:
        """Group contexts of similar length, which minimises padding; the longest come last."""
        widths = self.lengths + (self.bos is not None)
        order = np.argsort(-widths, kind="stable")
        row = np.cumsum(self.text.keep) - 1
        batches = []
        at = 0
        while at < len(order):
            width = int(widths[order[at]])
            take = max(1, batch_tokens // width)
            batches.append(self._batch(order[at : at + take], width, row))
            at += take
        return batches[::-1]

    def _batch(self, contexts: NDArray[np.int64], width: int, row: NDArray[np.int64]) -> Batch:
        column = np.arange(width) - (self.bos is not None)  # -1 is BOS
        filled = column < self.lengths[contexts, None]
        inside = filled & (column >= 0)
        token = np.where(inside, self.starts[contexts, None] + column, 0)
        input_ids = np.where(inside, self.text.ids[token], PAD_ID)
        if self.bos is not None:
            input_ids[:, 0] = self.bos
        keep = inside & self.text.keep[token]
        return Batch(input_ids, filled.astype(np.int64), keep, row[token[keep]])


def _backend(tokenizer: "PreTrainedTokenizerBase") -> "Tokenizer":
    """Return the Rust tokenizer without truncation and padding, as transformers sets it."""
    if not getattr(tokenizer, "is_fast", False):
        raise Mismatch(
            f"The tokenizer {_name(tokenizer)} ({type(tokenizer).__name__}) returns no character offsets, which an "
            "atlas needs. Load the model's fast tokenizer: AutoTokenizer returns it for a folder with a "
            "tokenizer.json."
        )
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = False
    return backend


def _name(tokenizer: "PreTrainedTokenizerBase") -> str:
    return repr(getattr(tokenizer, "name_or_path", "") or "in memory")


def special_ids(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """Return the ids of all special tokens, including reserved ones without a role."""
    added = tokenizer.added_tokens_decoder.items()
    return tuple(sorted({*tokenizer.all_special_ids, *(n for n, token in added if token.special)}))


def _byte_of() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary represents.

    Printable bytes represent themselves; the characters from 256 on represent the others.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTE_OF = _byte_of()


def _show_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    broken = error.object[error.start : error.end]
    return "".join(f"<0x{b:02X}>" for b in broken), error.end


codecs.register_error("atlas.bytes", _show_bytes)


def _byte_token_text(token: str) -> str:
    try:
        return bytes(_BYTE_OF[c] for c in token).decode("utf-8", errors="atlas.bytes")
    except KeyError:  # not of the byte alphabet: a token that was added by hand
        return token


def _piece_text(token: str) -> str:
    byte = re.fullmatch(r"<0x([0-7][0-9A-F])>", token)  # byte fallback; 0x80 and above: a fragment
    return chr(int(byte[1], 16)) if byte else token.replace("▁", " ")
