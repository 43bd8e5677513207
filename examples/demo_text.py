"""Stories, tokenizers and token rows of the demo.

Two tokenizers of different kinds are trained on the same stories, so that one
text is cut in two different ways. Both keep exact character offsets, and both
give a text back unchanged.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TRAIN_FILE = "stories3M-samples.jsonl.gz"
OTHER_FILE = "tinystories-1000.jsonl"
HELD_OUT = 500
SPECIALS = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "pad_token": "<|pad|>"}


def read_jsonl(path: Path) -> list[str]:
    """Read the texts of a JSON-lines file, plain or gzipped.

    Parameters
    ----------
    path
        File with one ``{"text": ...}`` per line.

    Returns
    -------
    The texts, in file order.
    """
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def read_stories(folder: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Read the training stories and the two held-out sets.

    Parameters
    ----------
    folder
        Folder that holds the two story files.

    Returns
    -------
    The training stories, and the held-out stories by the name of their set:
    ``samples`` (the last 500 sampled stories) and ``tinystories`` (all 1,000
    stories of the other file). No tokenizer, model or SAE is trained on them.
    """
    samples = read_jsonl(folder / TRAIN_FILE)
    held_out = {
        "samples": samples[-HELD_OUT:],
        "tinystories": read_jsonl(folder / OTHER_FILE),
    }
    return samples[:-HELD_OUT], held_out


def train_byte_level(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer, as GPT-2 has.

    Parameters
    ----------
    texts
        Texts to train on.
    vocab_size
        Entries of the vocabulary, special tokens included.

    Returns
    -------
    A tokenizer that adds no prefix space and no special tokens by itself.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_metaspace(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a BPE tokenizer that splits at spaces only and falls back to bytes.

    Punctuation may share a token with the word before it ("day," is one
    token), and a character outside the alphabet becomes its UTF-8 bytes.

    Parameters
    ----------
    texts
        Texts to train on.
    vocab_size
        Entries of the vocabulary: special tokens and 256 byte tokens included.

    Returns
    -------
    A tokenizer that adds no prefix space and no special tokens by itself.
    """
    space = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never")
    first = [*SPECIALS.values(), *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=False))
    tokenizer.pre_tokenizer = space
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(first), limit_alphabet=70, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    # The trainer knows no byte tokens: put them in front of what it found.
    spec = json.loads(tokenizer.to_str())
    found = spec["model"]["vocab"]
    tokens = first + sorted(found, key=found.__getitem__)
    spec["model"]["vocab"] = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


TRAINERS = {"byte-level": train_byte_level, "metaspace": train_metaspace}


def make_tokenizer(kind: str, texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer and check that it gives every 50th text back unchanged.

    Parameters
    ----------
    kind
        ``byte-level`` or ``metaspace``.
    texts
        Texts to train on.
    vocab_size
        Entries of the vocabulary.

    Returns
    -------
    The tokenizer in the form that ``save_pretrained`` writes.

    Raises
    ------
    ValueError
        If a text does not survive the way there and back.
    """
    raw = TRAINERS[kind](texts, vocab_size)
    build: Any = PreTrainedTokenizerFast  # its constructor has no types
    tokenizer: PreTrainedTokenizerFast = build(
        tokenizer_object=raw, clean_up_tokenization_spaces=False, **SPECIALS
    )
    for text in texts[::50]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if tokenizer.decode(ids) != text:
            msg = f"The {kind} tokenizer does not give back {text[:60]!r}."
            raise ValueError(msg)
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Encode texts, and end each with the end-of-story token.

    Parameters
    ----------
    tokenizer
        One of the demo tokenizers.
    texts
        Texts to encode.

    Returns
    -------
    One array of token ids per text.
    """
    batch = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    eos = tokenizer.eos_token_id
    return [np.array([*ids, eos], dtype=np.int64) for ids in batch]


def packed_rows(stories: Sequence[NDArray[np.int64]], bos: int, context: int) -> NDArray[np.int64]:
    """Lay stories out in full rows for training.

    A row opens with BOS and the start of a story, or the next part of a story
    longer than a row. What a story leaves free is filled with the beginning of
    the story after it, so no row holds padding.

    Parameters
    ----------
    stories
        Token ids of each story, end-of-story token included.
    bos
        Id that opens every row.
    context
        Tokens per row, BOS included.

    Returns
    -------
    Token ids, shape (rows, context).
    """
    width = context - 1
    stream = np.concatenate(stories)
    ends = np.cumsum([len(story) for story in stories])
    starts = np.concatenate(
        [np.arange(end - len(story), end, width) for story, end in zip(stories, ends, strict=True)]
    )
    body = stream[(starts[:, None] + np.arange(width)) % len(stream)]
    return np.concatenate([np.full((len(body), 1), bos), body], axis=1)


def padded_rows(
    stories: Sequence[NDArray[np.int64]], bos: int, context: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Lay stories out one per row, cut into parts where too long, for measuring.

    Parameters
    ----------
    stories
        Token ids of each story, end-of-story token included.
    bos
        Id that opens every row, and fills its free end.
    context
        Tokens per row, BOS included.

    Returns
    -------
    rows
        Token ids, shape (rows, context).
    real
        True where a token of a story stands, so never on BOS or filling;
        shape (rows, context).
    """
    width = context - 1
    parts = [s[i : i + width] for s in stories for i in range(0, len(s), width)]
    rows = np.full((len(parts), context), bos, dtype=np.int64)
    real = np.zeros(rows.shape, dtype=np.bool_)
    for number, part in enumerate(parts):
        rows[number, 1 : 1 + len(part)] = part
        real[number, 1 : 1 + len(part)] = True
    return rows, real
