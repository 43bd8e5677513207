"""Concept files, contexts of words, and their activations: hostile files, brute force, regressions."""

import json
import os

import numpy as np
import pytest
import torch
from scipy import sparse
from small_ingest import CONTEXT, model, topk

from analysis.concepts.settings import ConceptSettings
from analysis.concepts.words.contexts import word_contexts
from analysis.concepts.words.encoding import encode_words, pool_rows
from analysis.concepts.words.files import list_names, read_words
from atlas.errors import BadInput
from ingest.sae.autoencoder import open_sae
from ingest.text.corpus import Document
from ingest.text.tokenization import ContextSettings


def words_of(tmp_path, content, name="words.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_words(path)


def test_columns_of_a_csv_file(tmp_path):
    found = words_of(
        tmp_path,
        "text,label,group,family,span,carrier\n"
        "queen,female,royal,noun,,\nking,male,royal,noun,,I saw the {}.\n"
        '"a tall girl",female,,,7:11,\nBoy,male,,,,\n',
    )
    queen, king, girl, boy = found.items
    assert (queen.labels, queen.group, queen.family) == (("female",), "royal", "noun")
    assert king.carrier == "I saw the {}."
    assert (girl.word, girl.group) == ("girl", "girl")
    assert boy.group == "boy"
    (concept,) = found.concepts
    assert (concept.name, concept.positive, concept.negative) == ("words/female", "female", "male")
    assert found.labels_of(concept).tolist() == [True, False, True, False]


def test_several_labels_and_classes_in_jsonl(tmp_path):
    rows = [
        {"text": "queen", "label": ["female", "royal"]},
        {"text": "king", "label": "male|royal"},
        {"text": "cup", "label": None},
    ]
    found = words_of(tmp_path, "\n".join(map(json.dumps, rows)), "w.jsonl")
    assert [c.name for c in found.concepts] == ["w/female", "w/male", "w/royal"]
    assert found.labels_of(found.concepts[2]).tolist() == [True, True, False]
    assert {c.negative for c in found.concepts} == {"other"}


def test_labels_and_names_of_files_are_made_short_and_plain(tmp_path):
    found = words_of(tmp_path, 'text,label\na,"x\n  y"\nb,z\n', "w" * 200 + ".csv")
    assert [c.positive for c in found.concepts] == ["x y"]
    assert len(found.name) == 60


def test_a_word_in_both_classes_is_excluded_and_reported(tmp_path):
    """Seed 004 assigned unisex names and animals to one of the classes."""
    found = words_of(tmp_path, "text,label\nRobin,male\nTom,male\nRobin,female\nAmy,female\n")
    assert [item.text for item in found.items] == ["Tom", "Amy"]
    assert "'Robin'" in found.messages[0]
    repeated = words_of(tmp_path, "text,label\nTom,male\nTom,male\nAmy,female\n")
    assert len(repeated.items) == 2
    assert repeated.messages == ("Ignored 1 repeated row.",)


def test_the_hash_depends_on_the_words_alone(tmp_path):
    one = words_of(tmp_path, "text,label\na,x\nb,y\n", "one.csv")
    same = words_of(tmp_path, "label,text\nx,a\ny,b\n", "two.csv")
    other = words_of(tmp_path, "text,label\na,y\nb,x\n", "three.csv")
    assert one.hash == same.hash != other.hash


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.csv", "word,label\na,b\n", "no column 'text'"),
        ("w.csv", "text,label\na,b,c\n", "another number of fields"),
        ("w.csv", 'text,label\n"a,b\n', "not valid CSV"),
        ("w.csv", b"text,label\n\xff,x\n", "not UTF-8: line 2"),
        ("w.csv", "text,label\na,x\nb,x\n", "nothing to compare"),
        ("w.csv", "text,label\n", "0 word"),
        ("w.csv", "text,label\n ,x\n", "not only spaces"),
        ("w.csv", "text,label,span\nabc,x,2:9\n", "within the 3 characters"),
        ("w.csv", "text,label,span\nabc,x,-1:2\n", "expected start:end"),
        ("w.csv", "text,label,carrier\nabc,x,no slot\n", "with {} once"),
        ("w.csv", "text,label\n" + "a" * 10_001 + ",x\n", "10,001 characters"),
        ("w.jsonl", "{not json}\n", "line 1, is not JSON"),
        ("w.jsonl", "[1]\n", "not an object"),
        ("w.jsonl", '{"text": ["a"], "label": "x"}\n', "of type list"),
        ("w.jsonl", '{"text": "\\ud800", "label": "x"}\n', "half of a surrogate"),
        ("w.jsonl", "[" * 100_000 + "\n", "is not JSON"),
        ("w.txt", "a", "neither a list of this program"),
    ],
)
def test_bad_files_get_one_message(tmp_path, name, content, message):
    with pytest.raises(BadInput, match=message):
        words_of(tmp_path, content, name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with a name")
@pytest.mark.timeout(60)  # without the check, opening the pipe never returns
def test_a_pipe_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(BadInput, match="a pipe or a device"):
        read_words(tmp_path / "pipe.csv")


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "none.csv", "nul\0.csv"):
        with pytest.raises(BadInput, match="cannot be read"):
            read_words(path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BadInput, match="cannot be read"):
        read_words(tmp_path / "folder.csv")


@pytest.mark.parametrize("name", list_names())
def test_own_lists_have_no_repetition_and_enough_words(name):
    found = read_words(name)
    assert not found.messages
    assert len({item.text for item in found.items}) == len(found.items)
    for concept in found.concepts:
        assert 20 <= found.labels_of(concept).sum() < len(found.items)


def test_carriers_shift_the_word(tmp_path):
    items = words_of(tmp_path, "text,label,span\nbig cat,x,4:7\nsun,y,\n").items
    found = word_contexts(items, ConceptSettings(carrier=("the {} sat", "{}")))
    assert [c.text[c.start : c.end] for c in found] == ["cat", "cat", "sun", "sun"]
    assert found[0].text == "the big cat sat"
    for bad in ("none", "{} and {}"):
        with pytest.raises(BadInput, match="once"):
            word_contexts(items, ConceptSettings(carrier=(bad,)))


def test_words_are_found_in_the_text(tmp_path):
    items = words_of(tmp_path, "text,label\ncat,x\nsun,y\nrare,y\n").items
    texts = ["The cat saw a cat.", "concatenate", "sun " + "very " * 100 + "cat", "cat"]
    documents = [Document(i, text) for i, text in enumerate(texts)]
    found = word_contexts(items, ConceptSettings(in_corpus=2), documents)
    assert [(c.item, c.text[c.start : c.end]) for c in found] == [
        (0, "cat"),
        (0, "cat"),
        (1, "sun"),
    ]
    assert found[0].text == "The cat"
    assert len(found[1].text) <= 303
    assert found[1].text.startswith("very ")
    long = [Document(0, "x" * 500 + " cat")]  # no space in the 300 characters before
    (one,) = word_contexts(items, ConceptSettings(in_corpus=1), long)
    assert one.text[one.start : one.end] == "cat"
    with pytest.raises(BadInput, match="Omit one"):
        word_contexts(items, ConceptSettings(in_corpus=1, carrier=("{}",)), documents)


LAYOUT = ContextSettings(CONTEXT, prepend_bos=True)


def encoded(lm, texts, spans=None, *, pool="last", batch_tokens=64):
    from analysis.concepts.words.contexts import WordContext

    spans = spans or [(0, len(text)) for text in texts]
    contexts = [WordContext(i, t, *s) for i, (t, s) in enumerate(zip(texts, spans, strict=True))]
    sae = open_sae(topk(), name="top")
    return encode_words(
        lm,
        contexts,
        layout=LAYOUT,
        batch_tokens=batch_tokens,
        saes=[sae],
        hooks=["hook_embed"],
        pool=pool,
    )


def by_hand(lm, text, span):
    """The inputs of the SAE on the tokens of a word, read from transformers, one text at a time."""
    coded = lm.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = [lm.tokenizer.bos_token_id, *coded["input_ids"]]
    with torch.no_grad():
        # The output of block 1, which the SAE of small_ingest reads.
        state = lm.base(torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0]
    inside = [
        i + 1 for i, (a, b) in enumerate(coded["offset_mapping"]) if b > span[0] and a < span[1]
    ]
    return state[inside]


@pytest.mark.parametrize("pool", ["last", "first", "mean", "max"])
def test_tokens_are_encoded_then_pooled_without_padding_and_bos(pool):
    """Seed 004 averaged four positions, padding included, and encoded the average."""
    lm, sae = model(), topk()
    texts = ["cat", "sun and day", "the little girl", "once upon a time they ran very"]
    spans = [(0, 3), (0, 11), (4, 10), (12, 16)]
    found = encoded(lm, texts, spans, pool=pool)
    reduce = {
        "last": lambda z: z[-1],
        "first": lambda z: z[0],
        "mean": lambda z: z.mean(0),
        "max": lambda z: z.max(0).values,
    }[pool]
    codes = found.saes["top"].codes.toarray()
    for i, (text, span) in enumerate(zip(texts, spans, strict=True)):
        x = by_hand(lm, text, span)
        with torch.no_grad():
            expected = reduce(sae.encode(x))
            decoded = reduce(sae.decode(sae.encode(x)))
        np.testing.assert_allclose(codes[i], expected, atol=1e-4)
        np.testing.assert_allclose(found.saes["top"].layer[i], reduce(x), atol=1e-4)
        np.testing.assert_allclose(found.saes["top"].reconstruction[i], decoded, atol=1e-4)
        assert found.tokens[i] == len(x)
    assert found.sites["hook_embed"].shape == (4, 24)


def test_activations_do_not_depend_on_the_other_words():
    lm, texts = model(), ["cat", "once upon a time they ran very", "sun"]
    together = encoded(lm, texts, batch_tokens=200).saes["top"].layer
    alone = [encoded(lm, [text]).saes["top"].layer[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_words_without_a_token_have_no_row():
    lm = model()
    special = lm.tokenizer.eos_token
    found = encoded(lm, ["cat", special, "sun"])
    assert found.rows.tolist() == [0, 2]
    assert len(encoded(lm, [special]).rows) == 0
    assert encoded(lm, [special]).sites["hook_embed"].shape == (0, 24)


@pytest.mark.parametrize("pool", ["last", "first", "mean", "max"])
def test_sparse_and_dense_pooling_agree_on_random_rows(pool):
    rng = np.random.default_rng(0)
    rows = (rng.random((30, 7)) * (rng.random((30, 7)) < 0.3)).astype(np.float32)
    ends = np.array([1, 4, 5, 20, 30])
    expected = np.array(
        [
            {"last": b[-1], "first": b[0], "mean": b.mean(0), "max": b.max(0)}[pool]
            for b in np.split(rows, ends[:-1])
        ]
    )
    np.testing.assert_allclose(pool_rows(rows, ends, pool=pool), expected, rtol=1e-6)
    both = pool_rows(sparse.csr_array(rows), ends, pool=pool)
    np.testing.assert_allclose(both.toarray(), expected, rtol=1e-6)
    empty = pool_rows(sparse.csr_array((2, 3), dtype=np.float32), np.array([1, 2]), pool=pool)
    assert empty.shape == (2, 3)
