"""The corpus file: blocks of documents, limits of tokens, damage and bad sources."""

import errno
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from atlas.errors import AtlasError, BadInput, BrokenPart, NewerFormat, OutOfSpace
from ingest.text.corpus import BLOCK_BYTES, Corpus, Document, cut

SHARED = Path(__file__).parents[3] / "shared" / "data"


class RecordingProgress:
    """Progress that records its reports."""

    def __init__(self):
        self.sentences = []
        self.done = 0

    def stage(self, title, *, total=None, unit=""):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def advance(self, by=1):
        self.done += by

    def report(self, sentence):
        self.sentences.append(sentence)


def gather(folder: Path, texts, **options) -> Corpus:
    return Corpus.gather(texts, folder / "corpus.parquet", **options)


def all_of(corpus: Corpus) -> list[Document]:
    return [document for number in range(len(corpus)) for document in corpus.block(number)]


def one_each(texts):
    """Count one token per word, as a stand-in for a tokenizer."""
    return [len(text.split()) for text in texts]


sizes = st.lists(
    st.integers(1, 3 * BLOCK_BYTES)
    | st.integers(1, 2000)
    | st.sampled_from([BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, BLOCK_BYTES // 2]),
    max_size=40,
)


@hypothesis_settings(deadline=None)
@given(sizes, st.sampled_from(["x", "é", "世", "🙂"]))
def test_blocks_are_runs_of_complete_documents(sizes, character):
    width = len(character.encode())
    texts = [character * max(1, size // width) for size in sizes]
    blocks = list(cut(texts))
    assert [text for block in blocks for text in block] == texts
    for i, block in enumerate(blocks):
        lengths = [len(text.encode()) for text in block]
        # No document was added to a full block.
        assert sum(lengths[:-1]) < BLOCK_BYTES
        # A long document is alone.
        assert len(block) == 1 or max(lengths) < BLOCK_BYTES
        # A block that is not full is the last one, or precedes a long document.
        if sum(lengths) < BLOCK_BYTES and i + 1 < len(blocks):
            assert len(blocks[i + 1][0].encode()) >= BLOCK_BYTES


def test_blocks_of_a_prefix_are_the_same():
    texts = ["word " * (i % 977) + "end" for i in range(400)]
    expected = list(cut(texts))
    for n in (1, 57, 200, 399):
        assert list(cut(texts[:n]))[:-1] == expected[: len(list(cut(texts[:n]))) - 1]


text_lists = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: not t.isspace()),
    min_size=1,
    max_size=10,
)


@hypothesis_settings(deadline=None)
@given(text_lists)
def test_documents_round_trip(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("corpus")
    made = gather(folder, texts)
    again = Corpus.open(folder / "corpus.parquet")
    for corpus in (made, again):
        assert all_of(corpus) == [Document(i, text) for i, text in enumerate(texts)]
        info = corpus.info
        data = [text.encode() for text in texts]
        framed = b"".join(len(d).to_bytes(8, "little") + d for d in data)
        assert info.id == hashlib.sha256(framed).hexdigest()[:12]
        assert (info.documents, info.characters) == (len(texts), sum(map(len, texts)))
        assert (info.bytes, info.blocks, len(corpus)) == (sum(map(len, data)), 1, 1)
        corpus.verify()


def test_the_id_depends_on_the_order_and_the_borders_of_documents(tmp_path):
    ids = {
        gather(tmp_path, texts).info.id
        for texts in (["ab", "c"], ["a", "bc"], ["c", "ab"], ["abc"])
    }
    assert len(ids) == 4


def test_row_groups_and_rows_match_the_metadata(tmp_path):
    texts = ["x" * 40_000] * 5
    corpus = gather(tmp_path, texts, name="five")
    table = pq.read_table(tmp_path / "corpus.parquet")
    assert table.schema.names == ["document", "block", "text"]
    assert table["document"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["block"].to_pylist() == [0, 0, 1, 1, 2]
    assert pq.ParquetFile(tmp_path / "corpus.parquet").num_row_groups == len(corpus) == 3
    assert corpus.info.name == "five"
    assert [d.number for d in corpus.block(1)] == [2, 3]
    for number in (-1, 3):
        with pytest.raises(IndexError, match=f"has 3 blocks, and block {number}"):
            corpus.block(number)


def test_a_file_is_a_source(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    corpus = gather(tmp_path, tmp_path / "a.txt", split_on="line")
    assert [d.text for d in all_of(corpus)] == ["one", "two"]
    assert (corpus.info.name, corpus.info.source) == ("a", str(tmp_path / "a.txt"))


def test_blank_documents_are_excluded_and_counted(tmp_path):
    recorded = RecordingProgress()
    corpus = gather(tmp_path, ["", "one", " \n\t", "two", "\u2003"], progress=recorded)
    assert [(d.number, d.text) for d in all_of(corpus)] == [(0, "one"), (1, "two")]
    assert corpus.info.empty == 3
    assert recorded.sentences == ["Excluded 3 blank documents of memory."]
    assert recorded.done == 2


@pytest.mark.parametrize("texts", [[], [""], [" ", "\n\n"]])
@pytest.mark.parametrize("tokens", [None, 5])
def test_a_source_without_text_is_refused(tmp_path, texts, tokens):
    with pytest.raises(BadInput, match="There is nothing to read in memory: "):
        gather(tmp_path, texts, tokens=tokens, count=one_each)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(BadInput, match=r"nothing to read in .*a\.txt: it has no document"):
        gather(tmp_path, tmp_path / "a.txt")


@hypothesis_settings(deadline=None)
@given(st.lists(st.integers(1, 9000), min_size=1, max_size=12), st.integers(1, 60_000))
def test_tokens_stop_after_the_document_that_reaches_them(tmp_path_factory, words, tokens):
    folder = tmp_path_factory.mktemp("corpus")
    texts = ["wordy " * n for n in words]
    if tokens > sum(words):
        with pytest.raises(
            BadInput, match=rf"and memory has {sum(words):,}\. Request {sum(words):,} at most"
        ):
            gather(folder, texts, tokens=tokens, count=one_each)
        assert list(folder.iterdir()) == []
        return
    corpus = gather(folder, texts, tokens=tokens, count=one_each)
    found = [d.text for d in all_of(corpus)]
    reached, last = sum(words[: len(found)]), len(found) - 1
    assert sum(words[:last]) < tokens <= reached
    assert found[:last] == texts[:last]
    if reached <= 1.1 * tokens:
        assert found[last] == texts[last]
    else:
        assert texts[last].startswith(found[last])
        assert sum(one_each(found)) == tokens


def test_a_long_document_is_cut_at_the_token_limit(tmp_path):
    corpus = gather(tmp_path, ["word " * 4000], tokens=100, count=one_each)
    assert [len(d.text.split()) for d in all_of(corpus)] == [100]


def test_only_a_prefix_of_a_very_long_line_is_tokenized(tmp_path):
    counted = []

    def count(texts):
        counted.extend(map(len, texts))
        return one_each(texts)

    corpus = gather(tmp_path, ["few words", "word " * 1_000_000], tokens=100, count=count)
    assert [len(d.text.split()) for d in all_of(corpus)] == [2, 98]
    assert max(counted) == BLOCK_BYTES


def test_reading_stops_at_the_token_limit(tmp_path):
    class Endless(list):
        def __iter__(self):
            yield from ("word " * 2000 for _ in range(100))
            raise AssertionError("read on")

    corpus = gather(tmp_path, Endless(), tokens=20_000, count=one_each)
    assert corpus.info.documents == 10


def test_a_token_limit_needs_a_count_function_and_a_positive_number(tmp_path):
    with pytest.raises(TypeError, match="count"):
        gather(tmp_path, ["x"], tokens=3)
    with pytest.raises(BadInput, match="at least one"):
        gather(tmp_path, ["x"], tokens=0, count=one_each)


def test_an_error_in_the_source_leaves_no_file(tmp_path):
    into = tmp_path / "into"
    into.mkdir()
    gather(into, ["old"])
    (tmp_path / "a.jsonl").write_text('{"text": "new"}\nnot JSON\n')
    with pytest.raises(BadInput, match="line 2, is not JSON"):
        gather(into, tmp_path / "a.jsonl")
    assert [d.text for d in all_of(Corpus.open(into / "corpus.parquet"))] == ["old"]
    assert [path.name for path in into.iterdir()] == ["corpus.parquet"]


def test_a_full_disk_is_reported_and_leaves_no_file(tmp_path, monkeypatch):
    def full(self, table):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OutOfSpace, match=r"The disk is full: .*corpus\.parquet"):
        gather(tmp_path, ["x"])
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"cannot be written to .*no-folder.*No such file"):
        gather(tmp_path / "no-folder", ["x"])


def test_a_changed_byte_is_detected(tmp_path):
    texts = [f"{i} " + "some words " * 200 for i in range(60)]
    path = gather(tmp_path, texts).path
    sound = path.read_bytes()
    errors = []
    for at in range(0, len(sound), 7):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x41]) + sound[at + 1 :])
        try:
            corpus = Corpus.open(path)
            corpus.verify()
        except AtlasError as error:
            errors.append(error)
        else:  # the byte is in the library's own metadata, and the documents are unchanged
            assert [d.text for d in all_of(corpus)] == texts
    assert len(errors) > len(sound) // 7 // 4
    for error in errors:
        assert isinstance(error, BrokenPart | NewerFormat)
        assert str(path) in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize("end", [0, 3, 100, -1])
def test_a_truncated_file_is_broken(tmp_path, end):
    path = gather(tmp_path, ["some words"] * 10).path
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(BrokenPart, match="is damaged"):
        Corpus.open(path)


def test_a_file_that_is_no_corpus_is_broken(tmp_path):
    path = tmp_path / "corpus.parquet"
    with pytest.raises(BrokenPart, match="No such file"):
        Corpus.open(path)
    pq.write_table(pa.table({"text": ["x"]}), path)
    with pytest.raises(BrokenPart, match="is damaged"):
        Corpus.open(path)


def rewritten(path: Path, **changes) -> None:
    """Write the file again with changed metadata."""
    table = pq.read_table(path)
    metadata = json.loads(pq.ParquetFile(path).metadata.metadata[b"atlas.corpus"])
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"atlas.corpus": json.dumps(metadata | changes)})


def test_a_newer_format_is_reported(tmp_path):
    path = gather(tmp_path, ["x"]).path
    rewritten(path)
    Corpus.open(path).verify()
    rewritten(path, format=2, kind="new")
    with pytest.raises(NewerFormat, match="upgrade"):
        Corpus.open(path)


@pytest.mark.parametrize("change", [{"blocks": 2}, {"documents": 5}, {"unknown": 1}])
def test_inconsistent_metadata_is_broken(tmp_path, change):
    path = gather(tmp_path, ["x"]).path
    rewritten(path, **change)
    with pytest.raises(BrokenPart, match="is damaged"):
        Corpus.open(path)


def test_changed_documents_are_broken(tmp_path):
    path = gather(tmp_path, ["x"]).path
    rewritten(path, id="0" * 12)
    with pytest.raises(BrokenPart, match="the checksum of its documents differs"):
        Corpus.open(path).verify()


@pytest.mark.shared
def test_each_long_document_is_one_block(tmp_path):
    path = SHARED / "text" / "classic-books-50.jsonl"
    if not path.is_file():
        pytest.skip("../shared/data/text/classic-books-50.jsonl is not there")
    corpus = gather(tmp_path, path)
    with path.open(encoding="utf-8") as lines:
        books = [json.loads(line)["text"] for line in lines]
    assert [d.text for d in all_of(corpus)] == books
    for number in range(len(corpus)):
        lengths = [len(d.text.encode()) for d in corpus.block(number)]
        assert len(lengths) == 1 or max(lengths) < BLOCK_BYTES
    assert corpus.info.characters == sum(map(len, books))
    corpus.verify()
