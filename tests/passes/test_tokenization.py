"""Tokens, contexts and batches, compared with a loop over tokens."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from tokenizers.processors import ByteLevel as ByteLevelProcessor
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from atlas.errors import BadInput, Mismatch
from ingest.codes.store import Block
from ingest.text.corpus import Corpus, Document
from ingest.text.tokenization import (
    ContextSettings,
    token_batches,
    token_counts,
    token_texts,
    tokenize,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"
TRAINING = [
    "The cat sat on the mat, and the other cat sat on it.",
    "A caf\u00e9 in 東京 🙂 sold 10 cats; the cats sat.",
    "one two  three\nfour\tfive",
] * 20
SPECIALS = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "unk_token": "<|unk|>"}


def byte_level(*, trim: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = ByteLevelProcessor(trim_offsets=trim, add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=list(SPECIALS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING, trainer)
    return tokenizer


def metaspace() -> Tokenizer:
    trained = Tokenizer(models.BPE(unk_token="<|unk|>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=90,
        special_tokens=list(SPECIALS.values()),
        limit_alphabet=30,
        show_progress=False,
    )
    trained.train_from_iterator(TRAINING, trainer)
    # The trainer does not support byte fallback: add the bytes to its vocabulary.
    spec = json.loads(trained.to_str())
    vocabulary = spec["model"]["vocab"]
    vocabulary.update({f"<0x{b:02X}>": len(vocabulary) + b for b in range(256)})
    spec["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<|unk|>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordPieceTrainer(
        vocab_size=80, special_tokens=list(SPECIALS.values()), show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING, trainer)
    return tokenizer


KINDS = {
    "byte-level": byte_level(trim=False),
    "byte-level, offsets trimmed": byte_level(trim=True),
    "metaspace": metaspace(),
    "word pieces": word_piece(),
}
TOKENIZERS = {
    kind: PreTrainedTokenizerFast(tokenizer_object=made, **SPECIALS) for kind, made in KINDS.items()
}
words = st.sampled_from(
    [
        "cat",
        " the",
        "<|eos|>",
        "<|bos|>",
        "東京",
        "🙂",
        "𝔘",
        "caf\u00e9",
        "\n",
        "  ",
        "zq",
        "\0",
        "e\u0301",
    ]
)
texts = st.one_of(st.lists(words, max_size=25).map("".join), st.text(max_size=30))


def documents(texts: list[str], first: int = 0) -> list[Document]:
    return [Document(first + i, text) for i, text in enumerate(texts)]


def by_loop(docs, tokenizer, size, bos):
    """Return the rows of Tokens, and the ids of each context, computed token by token."""
    special = set(tokenizer.all_special_ids)
    rows, contexts = [], []
    for doc in docs:
        encoding = tokenizer(doc.text, add_special_tokens=False, return_offsets_mapping=True)
        ids, spans = encoding["input_ids"], encoding["offset_mapping"]
        at, index = 0, 0
        while at < len(ids):
            context = [tokenizer.bos_token_id] if bos else []
            counted = False
            for here in range(at, min(at + size - bos, len(ids))):
                if ids[here] not in special:
                    counted = True
                    rows.append(
                        (ids[here], doc.number, index, len(context), *spans[here], len(contexts))
                    )
                    index += 1
                context.append(ids[here])
            if counted:
                contexts.append(context)
            at += size - bos
            while at < len(ids) and ids[at] in special:
                at += 1
    return rows, contexts


def check(block, docs, tokenizer, size, bos, batch_tokens):
    rows, contexts = by_loop(docs, tokenizer, size, bos)
    t = block.tokens
    columns = [t.token_id, t.document, t.index, t.position, t.start, t.end]
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == [row[:6] for row in rows]
    assert [c.dtype for c in columns] == [
        np.int32,
        np.int64,
        np.int32,
        np.int32,
        np.int32,
        np.int32,
    ]

    none = np.zeros(0)
    codes = Block(0, t, np.zeros(len(t) + 1, dtype=np.int64), none, none, 1)
    assert codes.context.tolist() == [row[6] for row in rows]

    seen, laid = [], []
    for batch in block.batches:
        assert batch.input_ids.dtype == batch.attention_mask.dtype == batch.rows.dtype == np.int64
        assert batch.input_ids.shape == batch.attention_mask.shape == batch.keep.shape
        assert batch.input_ids.size <= batch_tokens or len(batch.input_ids) == 1
        assert t.token_id[batch.rows].tolist() == batch.input_ids[batch.keep].tolist()
        assert t.position[batch.rows].tolist() == np.nonzero(batch.keep)[1].tolist()
        assert (np.diff(batch.attention_mask, axis=1) <= 0).all()  # padding is on the right
        lengths = batch.attention_mask.sum(axis=1)
        assert lengths.max() == batch.input_ids.shape[1]
        laid += [ids[:n].tolist() for ids, n in zip(batch.input_ids, lengths, strict=True)]
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(len(rows)))
    assert sorted(laid) == sorted(contexts)
    widths = [batch.input_ids.shape[1] for batch in block.batches]
    assert widths == sorted(widths)


@pytest.mark.parametrize("kind", TOKENIZERS)
@hypothesis_settings(max_examples=80, deadline=None)
@given(
    st.lists(texts, max_size=6),
    st.integers(2, 12),
    st.booleans(),
    st.integers(1, 60),
    st.integers(0, 9),
)
def test_tokens_and_batches_equal_a_loop(kind, drawn_texts, size, bos, batch_tokens, first):
    tokenizer = TOKENIZERS[kind]
    docs = documents(drawn_texts, first)
    settings = ContextSettings(context_size=size, prepend_bos=bos)
    block = tokenize(docs, tokenizer, settings=settings, batch_tokens=batch_tokens)
    check(block, docs, tokenizer, size, bos, batch_tokens)
    alone = token_batches(docs, tokenizer, settings=settings, batch_tokens=batch_tokens)
    check(replace(block, batches=alone), docs, tokenizer, size, bos, batch_tokens)
    counts = token_counts(drawn_texts, tokenizer)
    assert counts == [int((block.tokens.document == d.number).sum()) for d in docs]


def test_contexts_of_one_token_without_bos_equal_a_loop():
    tokenizer = TOKENIZERS["byte-level"]
    docs = documents(["the cat<|eos|> sat"])
    block = tokenize(docs, tokenizer, settings=ContextSettings(context_size=1, prepend_bos=False))
    check(block, docs, tokenizer, 1, False, 4096)


@hypothesis_settings(max_examples=100, deadline=None)
@given(texts)
def test_offsets_slice_the_text_of_each_token(text):
    for kind in ("byte-level", "byte-level, offsets trimmed"):
        tokenizer = TOKENIZERS[kind]
        block = tokenize(
            documents([text]), tokenizer, settings=ContextSettings(context_size=8, prepend_bos=True)
        )
        t = block.tokens
        shown = token_texts(tokenizer, t.token_id.tolist())
        for i, start, end in zip(range(len(t)), t.start, t.end, strict=True):
            if "<0x" in shown[i]:  # bytes of a character; the slice holds the complete character
                assert end > start
            elif "trimmed" in kind:
                assert text[start:end].strip() == shown[i].strip()
            else:
                assert text[start:end] == shown[i]


def test_each_token_of_a_character_covers_the_character():
    tokenizer = TOKENIZERS["byte-level"]
    text = "a 𝔘b"
    block = tokenize(
        documents([text]), tokenizer, settings=ContextSettings(context_size=3, prepend_bos=False)
    )
    covered = [text[s:e] for s, e in zip(block.tokens.start, block.tokens.end, strict=True)]
    assert covered == ["a", " ", "𝔘", "𝔘", "𝔘", "𝔘", "b"]
    assert block.tokens.position.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_special_tokens_are_input_but_not_counted():
    tokenizer = TOKENIZERS["byte-level"]
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    plain = tokenizer("x", add_special_tokens=False)["input_ids"]
    settings = ContextSettings(context_size=6, prepend_bos=True)
    block = tokenize(documents(["x<|eos|>x", "<|eos|><|bos|>"]), tokenizer, settings=settings)
    (batch,) = block.batches  # a document of special tokens alone has no context
    assert batch.input_ids.tolist() == [[bos, *plain, eos, *plain]]
    assert batch.keep.tolist() == [[False, True, False, True]]
    assert block.tokens.index.tolist() == [0, 1]
    assert block.tokens.position.tolist() == [1, 3]


def test_reserved_special_tokens_without_a_role_are_not_counted():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(trim=False), **SPECIALS)
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken("<|reserved|>", special=True)])
    assert token_counts(["<|reserved|>x<|reserved|>"], tokenizer) == [1]


def test_truncation_and_padding_of_the_tokenizer_have_no_effect():
    settings = ContextSettings(context_size=5, prepend_bos=True)
    docs = documents(["the cat sat on the mat " * 5, "it"])
    expected = tokenize(docs, TOKENIZERS["byte-level"], settings=settings)
    made = byte_level(trim=False)
    made.enable_truncation(3)
    made.enable_padding(length=50)
    found = tokenize(
        docs, PreTrainedTokenizerFast(tokenizer_object=made, **SPECIALS), settings=settings
    )
    for a, b in zip(expected.batches, found.batches, strict=True):
        assert a.input_ids.tolist() == b.input_ids.tolist()
        assert a.rows.tolist() == b.rows.tolist()


@pytest.mark.parametrize("docs", [[], documents([" "]), documents(["<|bos|>"])])
def test_documents_without_counted_tokens_have_no_batches(docs):
    settings = ContextSettings(context_size=4, prepend_bos=True)
    block = tokenize(docs, TOKENIZERS["word pieces"], settings=settings)
    assert len(block.tokens) == 0
    assert block.batches == token_batches(docs, TOKENIZERS["word pieces"], settings=settings) == ()
    assert token_counts([d.text for d in docs], TOKENIZERS["word pieces"]) == [0] * len(docs)


@pytest.mark.slow
def test_many_one_word_documents_are_all_tokenized(tmp_path):
    tokenizer = TOKENIZERS["word pieces"]
    corpus = Corpus.gather(["cat"] * 100_000, tmp_path / "corpus.parquet")
    settings = ContextSettings(context_size=128, prepend_bos=True)
    per_word = len(tokenizer("cat", add_special_tokens=False)["input_ids"])
    total, last = 0, -1
    for number in range(len(corpus)):
        block = tokenize(corpus.block(number), tokenizer, settings=settings)
        total += len(block.tokens)
        assert block.tokens.document[0] == last + 1
        last = block.tokens.document[-1]
        assert sum(batch.input_ids.size for batch in block.batches) == len(corpus.block(number)) * (
            per_word + 1
        )
    assert total == 100_000 * per_word


def test_a_tokenizer_without_bos_is_refused():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(trim=False))
    settings = ContextSettings(context_size=8, prepend_bos=True)
    with pytest.raises(Mismatch, match="has no BOS token"):
        tokenize(documents(["x"]), tokenizer, settings=settings)
    tokenize(documents(["x"]), tokenizer, settings=ContextSettings(8, prepend_bos=False))


def test_a_tokenizer_without_offsets_is_refused():
    slow = ByT5Tokenizer()
    with pytest.raises(Mismatch, match="no character offsets"):
        tokenize(documents(["x"]), slow, settings=ContextSettings(8, prepend_bos=False))
    with pytest.raises(Mismatch, match="no character offsets"):
        token_counts(["x"], slow)


@pytest.mark.parametrize(("size", "bos"), [(0, False), (-3, False), (1, True)])
def test_a_context_without_room_is_refused(size, bos):
    with pytest.raises(BadInput, match="no room for text"):
        ContextSettings(context_size=size, prepend_bos=bos)


def ids_of(tokenizer, *tokens: str) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


def test_texts_of_byte_level_tokens():
    tokenizer = TOKENIZERS["byte-level"]
    ids = ids_of(tokenizer, "Ġcat", "Ċ", "ä", "<|bos|>")
    assert token_texts(tokenizer, ids) == [" cat", "\n", "<0xE4>", "<|bos|>"]
    assert token_texts(tokenizer, [10_000]) == ["<10000>"]
    assert token_texts(tokenizer, []) == []


def test_texts_of_sentence_pieces():
    tokenizer = TOKENIZERS["metaspace"]
    ids = ids_of(tokenizer, "▁cat", "▁", "<0x0A>", "<0xE4>", "<|unk|>")
    assert token_texts(tokenizer, ids) == [" cat", " ", "\n", "<0xE4>", "<|unk|>"]


@hypothesis_settings(max_examples=100, deadline=None)
@given(texts.filter(lambda t: "<|" not in t and "<0x" not in t))
def test_texts_of_byte_level_tokens_join_to_the_text(text):
    tokenizer = TOKENIZERS["byte-level"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    shown = token_texts(tokenizer, ids)
    raw = b""
    for piece in shown:
        while "<0x" in piece:
            head, _, piece = piece.partition("<0x")
            raw += head.encode() + bytes([int(piece[:2], 16)])
            piece = piece[3:]
        raw += piece.encode()
    assert raw.decode() == text


def stories3m():
    folder = SHARED / "models" / "stories3M"
    if not folder.is_dir():
        pytest.skip("../shared/data/models/stories3M is not there")
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "blocks"), [("classic-books-50.jsonl", 2), ("wikitext-2/valid.txt", 3)]
)
def test_tokens_of_real_texts_equal_a_loop(tmp_path, file, blocks):
    tokenizer = stories3m()
    path = SHARED / "text" / file
    if not path.is_file():
        pytest.skip(f"../shared/data/text/{file} is not there")
    corpus = Corpus.gather(path, tmp_path / "corpus.parquet")
    settings = ContextSettings(context_size=128, prepend_bos=True)
    for number in range(blocks):
        docs = corpus.block(number)
        block = tokenize(docs, tokenizer, settings=settings, batch_tokens=2048)
        check(block, docs, tokenizer, 128, True, 2048)
        assert sum(token_counts([d.text for d in docs], tokenizer)) == len(block.tokens)
        text = {d.number: d.text for d in docs}
        shown = token_texts(tokenizer, block.tokens.token_id.tolist())
        t = block.tokens
        # The space that this tokenizer adds before a document covers its first character.
        for i in np.nonzero(t.index)[0]:
            covered = text[int(t.document[i])][t.start[i] : t.end[i]]
            assert shown[i].startswith("<0x") or covered.strip(" ") == shown[i].strip(" ")
        assert all(a < b for a, b in pairwise((t.document << 32 | t.index).tolist()))
