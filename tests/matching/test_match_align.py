"""Words and alignment, compared with a brute force over characters."""

import string
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import ingest.text.corpus
from atlas.errors import BrokenPart, Mismatch
from ingest.codes.store import Block, Tokens, write_shard
from ingest.match.align import align, find_words, last_tokens
from ingest.text.corpus import Corpus, Document
from ingest.text.tokenization import ContextSettings, tokenize

# The kind of every character of the random texts, by hand.
LETTERS = string.ascii_letters + string.digits + "éжع한국"
ALONE = "東京カーのสน🙂👩👧✈',._-!$«\0"
EXTENDS = "\u0301ั\u200d\ufe0f🏽\u00ad\u094d"
SPACES = " \n\t\u00a0\u3000"

PHRASES = [
    "don't",
    " l'homme",
    "東京タワー",
    "カ",
    "👩\u200d👧",
    "👍🏽",
    "🙂",
    "✈\ufe0f",
    "cat",
    " the",
    "The",
    "of the",
    " 12,345.67",
    "$9",
    "...",
    "\n\n",
    "  ",
    " ",
    "e\u0301",
    "สน",
    "한국",
    "<|eos|>",
    "_a",
    "\0",
    "zq",
]


def words_of(text):
    """Return (start, end) of each word of a text whose characters are of the kinds above."""
    words, kind = [], "space"
    for at, c in enumerate(text):
        if c in SPACES:
            kind = "space"
            continue
        after_joiner = kind != "space" and text[at - 1] == "\u200d"
        if kind != "space" and (
            c in EXTENDS or after_joiner or (kind == "letter" and c in LETTERS)
        ):
            words[-1] = (words[-1][0], at + 1)
        else:
            words.append((at, at + 1))
        if c not in EXTENDS:
            kind = "letter" if c in LETTERS else "alone"
        elif kind == "space":
            kind = "letter"
    return words


@given(st.lists(st.text(st.sampled_from(LETTERS + ALONE + EXTENDS + SPACES), max_size=12)))
def test_words_equal_those_of_a_loop_over_characters(texts):
    found = find_words(texts)
    assert found.text == "".join(texts)
    expected, base = [], 0
    for text in texts:
        expected += [(base + start, base + end) for start, end in words_of(text)]
        base += len(text)
    assert list(zip(found.start.tolist(), found.end.tolist(), strict=True)) == expected


@given(st.lists(st.text(max_size=12)))
def test_every_character_except_spaces_is_in_one_word(texts):
    found = find_words(texts)
    spans = list(zip(found.start.tolist(), found.end.tolist(), strict=True))
    assert all(start < end for start, end in spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    held = "".join(found.text[start:end] for start, end in spans)
    assert held == "".join(c for c in found.text if not c.isspace())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't stop", ["don", "'", "t", "stop"]),
        ("l\u2019homme, 3.5%", ["l", "\u2019", "homme", ",", "3", ".", "5", "%"]),
        ("snake_case x2", ["snake", "_", "case", "x2"]),
        ("東京タワーに行く", list("東京タワーに行く")),
        ("한국어 말", ["한국어", "말"]),
        ("naïve cafe\u0301", ["naïve", "cafe\u0301"]),
        ("नमस्ते", ["नमस्ते"]),
        ("👩\u200d👩\u200d👧👍🏽!", ["👩\u200d👩\u200d👧", "👍🏽", "!"]),
        ("1\ufe0f\u20e3 \ufeffa", ["1\ufe0f\u20e3", "\ufeffa"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        (" \n", []),
        ("", []),
    ],
)
def test_words_of_example_texts(text, words):
    found = find_words([text])
    assert [text[i:j] for i, j in zip(found.start, found.end, strict=True)] == words


SPECIALS = {"eos_token": "<|eos|>", "unk_token": "<|unk|>"}


def trained(model, trainer, pre_tokenizer=None, normalizer=None):
    tokenizer = Tokenizer(model)
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    texts = [" ".join(PHRASES), "the cat of the cat, don't the 東京 🙂 12", *PHRASES] * 3
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIALS)


def byte_level():
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=list(SPECIALS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return trained(models.BPE(), trainer, pre_tokenizers.ByteLevel(add_prefix_space=False))


def phrases():
    """Return a tokenizer whose tokens span words and spaces; unknown characters have no token."""
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=list(SPECIALS.values()), show_progress=False
    )
    return trained(models.BPE(), trainer)


def metaspace():
    trainer = trainers.BpeTrainer(
        vocab_size=90, special_tokens=list(SPECIALS.values()), show_progress=False
    )
    pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    return trained(models.BPE(unk_token="<|unk|>"), trainer, pre_tokenizer)


def word_pieces():
    trainer = trainers.WordPieceTrainer(
        vocab_size=90, special_tokens=list(SPECIALS.values()), show_progress=False
    )
    stripped = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    model = models.WordPiece(unk_token="<|unk|>")
    return trained(model, trainer, pre_tokenizers.Whitespace(), stripped)


TOKENIZERS = [byte_level(), phrases(), metaspace(), word_pieces()]


class Text:
    """Documents in blocks, as in a corpus, but empty ones are possible."""

    def __init__(self, blocks):
        self.blocks, number = [], 0
        for texts in blocks:
            self.blocks.append(tuple(Document(number + i, t) for i, t in enumerate(texts)))
            number += len(texts)

    def __len__(self):
        return len(self.blocks)

    def block(self, number):
        return self.blocks[number]


def random_codes(rng, blocks, d_sae):
    """Return codes on the tokens of each block, many rows of which are empty."""
    made = []
    for number, tokens in enumerate(blocks):
        dense = rng.random((len(tokens), d_sae)) * (rng.random((len(tokens), d_sae)) < 0.3)
        rows, indices = np.nonzero(dense)
        indptr = np.searchsorted(rows, np.arange(len(tokens) + 1)).astype(np.int64)
        values = dense[rows, indices].astype(np.float32)
        made.append(Block(number, tokens, indptr, indices.astype(np.uint32), values, d_sae))
    return made


def tokenized(text, tokenizer, context=5):
    contexts = ContextSettings(context, prepend_bos=False)
    return [tokenize(text.block(n), tokenizer, settings=contexts).tokens for n in range(len(text))]


def written(folder, name, blocks, *, cuts=()):
    """Write blocks into shards that are cut before each number in ``cuts``."""
    paths = []
    for first, end in pairwise([0, *cuts, len(blocks)]):
        paths.append(folder / f"{name}-{first}.arrow")
        d_sae = blocks[0].d_sae if blocks else 1
        write_shard(paths[-1], blocks[first:end], sae=name, d_sae=d_sae, first=first)
    return paths


def dense(rows):
    out = np.zeros((len(rows), rows.d_sae), dtype=np.float32)
    for t in range(len(rows)):
        entries = slice(rows.indptr[t], rows.indptr[t + 1])
        assert (np.diff(rows.indices[entries].astype(int)) > 0).all()
        out[t, rows.indices[entries]] = rows.values[entries]
    assert (rows.values > 0).all()
    return out


def by_hand(text, a, b):
    """Return (document, spelling, a's row, b's row, last tokens) of each unit, and counts of exclusions."""
    units, excluded, first = [], dict.fromkeys(EXCLUDED, 0), [0, 0]
    for documents, *codes in zip(text.blocks, a, b, strict=True):
        for document in documents:
            words = [set(range(*span)) for span in words_of(document.text)]
            # The rows of each side's tokens, and the characters except spaces that they cover.
            tokens = [[], []]
            for side, block in enumerate(codes):
                t = block.tokens
                for row in np.flatnonzero(t.document == document.number):
                    covered = set(range(t.start[row], t.end[row])) & set().union(*words)
                    tokens[side].append((row, covered))
                    excluded[EXCLUDED[2 * side]] += not covered
                    if covered:
                        joined = [w for w in words if w & covered]
                        words = [w for w in words if not w & covered] + [set().union(*joined)]
            for word in sorted(words, key=min):
                rows = [[r for r, covered in side if covered & word] for side in tokens]
                if all(rows):
                    spelling = document.text[min(word) : max(word) + 1]
                    values = (one(c, r) for c, r in zip(codes, rows, strict=True))
                    last = [begin + max(r) for begin, r in zip(first, rows, strict=True)]
                    units.append((document.number, spelling, *values, last))
                else:
                    excluded["a: no token of b there"] += len(rows[0])
                    excluded["b: no token of a there"] += len(rows[1])
        first = [begin + len(block) for begin, block in zip(first, codes, strict=True)]
    return units, excluded


def one(block, rows):
    """Return the largest activation of each feature on some rows."""
    out = np.zeros(block.d_sae, dtype=np.float32)
    for row in rows:
        for e in range(block.indptr[row], block.indptr[row + 1]):
            out[block.indices[e]] = max(out[block.indices[e]], block.values[e])
    return out


EXCLUDED = (
    "a: spaces alone",
    "a: no token of b there",
    "b: spaces alone",
    "b: no token of a there",
)


def same_partition(types, names):
    """Return whether two lists divide their positions into the same groups."""
    return len(set(zip(types, names, strict=True))) == len(set(types)) == len(set(names))


documents = st.lists(st.sampled_from(PHRASES), max_size=14).map("".join)


@hypothesis_settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.lists(documents, min_size=1, max_size=3), min_size=1, max_size=3),
    st.sampled_from(TOKENIZERS),
    st.sampled_from(TOKENIZERS),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_alignment_by_words_equals_a_loop_over_characters(
    tmp_path, blocks, first, second, in_files, seed
):
    text, rng = Text(blocks), np.random.default_rng(seed)
    a = random_codes(rng, tokenized(text, first), 6)
    b = random_codes(rng, tokenized(text, second), 9)
    scratch = tmp_path if in_files else None
    paths = written(tmp_path, "a", a), written(tmp_path, "b", b, cuts=range(1, len(b)))
    found = align(*paths, text, how="words", scratch=scratch)
    units, excluded = by_hand(text, a, b)
    assert (found.alignment, found.a.d_sae, found.b.d_sae) == ("words", 6, 9)
    assert found.left_out == excluded
    assert found.units.document.tolist() == [u[0] for u in units]
    assert same_partition(found.units.type.tolist(), [u[1] for u in units])
    assert sorted(set(found.units.type.tolist())) == list(range(len({u[1] for u in units})))
    np.testing.assert_array_equal(dense(found.a), np.reshape([u[2] for u in units], (-1, 6)))
    np.testing.assert_array_equal(dense(found.b), np.reshape([u[3] for u in units], (-1, 9)))
    last = last_tokens(*paths, text, how="words")
    np.testing.assert_array_equal(np.column_stack(last), np.reshape([u[4] for u in units], (-1, 2)))


def word_level(words):
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|eos|>")


def test_words_are_tokens_where_every_word_is_one_token(tmp_path):
    rng = np.random.default_rng(0)
    words = ["the", "cat", "42", "naïve", ",", "東", "🙂", "'"]
    blocks = [[" ".join(rng.choice(words, n)) for n in (0, 1, 30)], [" ".join(words)], [""]]
    text, tokenizer = Text(blocks), word_level(words)
    a = written(tmp_path, "a", random_codes(rng, tokenized(text, tokenizer), 5), cuts=[1])
    b = written(tmp_path, "b", random_codes(rng, tokenized(text, tokenizer, 7), 4), cuts=[2])
    by_tokens, by_words = (align(a, b, text, how=how) for how in ("tokens", "words"))
    assert len(by_tokens.units) == 1 + 30 + len(words)
    assert set(by_words.left_out.values()) == {0}
    assert not by_tokens.left_out
    for name in ("document", "type"):
        np.testing.assert_array_equal(getattr(by_tokens.units, name), getattr(by_words.units, name))
    for side in ("a", "b"):
        for name in ("indptr", "indices", "values"):
            np.testing.assert_array_equal(
                getattr(getattr(by_tokens, side), name), getattr(getattr(by_words, side), name)
            )


def test_aligned_tokens_have_their_own_codes(tmp_path):
    rng = np.random.default_rng(1)
    text = Text([["the cat of the cat", "don't"], ["", "東京 cat <|eos|> the"]])
    tokenizer = TOKENIZERS[0]
    a, b = (random_codes(rng, tokenized(text, tokenizer, n), n) for n in (5, 8))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    paths = written(tmp_path, "a", a, cuts=[1]), written(tmp_path, "b", b)
    found = align(*paths, text, how="tokens", scratch=scratch)
    ids = np.concatenate([block.tokens.token_id for block in a])
    assert same_partition(found.units.type.tolist(), ids.tolist())
    assert set(found.units.type.tolist()) == set(range(len(set(ids.tolist()))))
    assert found.units.type.dtype == np.int32
    numbers = np.concatenate([block.tokens.document for block in a])
    np.testing.assert_array_equal(found.units.document, numbers)
    for rows, blocks in ((found.a, a), (found.b, b)):
        expected = [one(x, [r]) for x in blocks for r in range(len(x))]
        np.testing.assert_array_equal(dense(rows), expected)
        assert (rows.indptr.dtype, rows.indices.dtype, rows.values.dtype) == (
            np.int64,
            np.uint32,
            np.float32,
        )
    assert sorted(p.name for p in scratch.iterdir()) == [
        "a-indices",
        "a-indptr",
        "a-values",
        "b-indices",
        "b-indptr",
        "b-values",
        "document",
        "type",
    ]


def test_a_real_corpus_is_read_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest.text.corpus, "BLOCK_BYTES", 40)
    texts = ["the cat of the cat, don't", "東京 the 12,345.67", "zq cat", "The 👩\u200d👧 of the"]
    corpus = Corpus.gather(texts, tmp_path / "corpus.parquet")
    assert len(corpus) == 2
    text = Text([[d.text for d in corpus.block(n)] for n in range(2)])
    rng = np.random.default_rng(2)
    a, b = (random_codes(rng, tokenized(text, t), 4) for t in TOKENIZERS[:2])
    found = align(
        written(tmp_path, "a", a, cuts=[1]), written(tmp_path, "b", b), corpus, how="words"
    )
    units, excluded = by_hand(text, a, b)
    assert found.left_out == excluded
    np.testing.assert_array_equal(dense(found.a), [u[2] for u in units])


def test_codes_of_other_tokens_are_rejected(tmp_path):
    text = Text([["the cat"], ["a cat of", "the cat of the"]])
    rng = np.random.default_rng(3)
    mine = tokenized(text, TOKENIZERS[0])
    a = written(tmp_path, "a", random_codes(rng, mine, 3))

    other = Tokens(*(getattr(mine[1], f).copy() for f in Tokens.__dataclass_fields__))
    other.token_id[-1] += 1
    b = written(tmp_path, "b", random_codes(rng, [mine[0], other], 3))
    position = f"token {mine[1].index[-1]} of document 2 on"
    with pytest.raises(Mismatch, match=rf"they differ from {position}. Align them by words."):
        align(a, b, text, how="tokens")

    fewer = Tokens(*(getattr(mine[1], f)[:-1] for f in Tokens.__dataclass_fields__))
    b = written(tmp_path, "b", random_codes(rng, [mine[0], fewer], 3))
    for sides in ((a, b), (b, a)):
        with pytest.raises(Mismatch, match=position):
            align(*sides, text, how="tokens")


@pytest.mark.parametrize("how", ["tokens", "words"])
def test_codes_of_other_blocks_are_rejected(tmp_path, how):
    text = Text([["the cat"], ["a cat of", "the cat of the"]])
    rng = np.random.default_rng(4)
    codes = random_codes(rng, tokenized(text, TOKENIZERS[0]), 3)
    complete, half = written(tmp_path, "a", codes), written(tmp_path, "b", codes[:1])
    with pytest.raises(Mismatch, match="differ in the text from block 1 on"):
        align(complete, half, text, how=how)
    with pytest.raises(Mismatch, match="of 1 blocks, but the text has 2"):
        align(half, half, text, how=how)
    with pytest.raises(Mismatch, match="of 0 blocks, but the text has 2"):
        align([], [], text, how=how)


def test_codes_of_another_text_are_rejected(tmp_path):
    text = Text([["the cat"], ["a cat of", "the cat of the"]])
    codes = random_codes(np.random.default_rng(5), tokenized(text, TOKENIZERS[0]), 3)
    a = written(tmp_path, "a", codes)
    with pytest.raises(Mismatch, match="beyond the end of its document"):
        align(a, a, Text([["the ca"], ["a cat of", "the cat of the"]]), how="words")
    with pytest.raises(Mismatch, match="in a document that its block does not have"):
        align(a, a, Text([["the cat"], ["a cat of"]]), how="words")


def test_a_broken_shard_is_reported(tmp_path):
    broken = tmp_path / "a.arrow"
    broken.write_bytes(b"not codes")
    with pytest.raises(BrokenPart):
        align([broken], [broken], Text([["the cat"]]), how="tokens")
