"""Readers of texts: files, folders, lists and data sets, and their refusals."""

import gzip
import json
import os
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.errors import BadInput, Missing
from ingest.text.readers import read

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def texts_of(source, **options) -> list[str]:
    return list(read(source, **options).documents)


def write(path: Path, data: bytes | str) -> Path:
    raw = data if isinstance(data, bytes) else data.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


# ---------------------------------------------------------------- text files


@pytest.mark.parametrize(
    ("split_on", "expected"),
    [
        ("paragraph", [" one\ntwo", "three"]),
        ("line", [" one", "two", "", " \t", "three", ""]),
        ("file", [" one\ntwo\n\n \t\nthree\n"]),
    ],
)
@pytest.mark.parametrize("ending", [".txt", ".md", ".TXT", ".txt.gz"])
def test_a_text_file_is_split_into_documents(tmp_path, ending, split_on, expected):
    path = write(tmp_path / f"a.b{ending}", "\ufeff one\r\ntwo\n\n \t\nthree\n\n")
    found = read(path, split_on=split_on)
    assert (found.name, found.source, found.revision) == ("a.b", str(path), None)
    assert list(found.documents) == expected


line_texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1
).filter(str.strip)


@given(st.lists(st.lists(line_texts, min_size=1, max_size=3).map("\n".join), max_size=4))
def test_paragraphs_round_trip(tmp_path_factory, paragraphs):
    path = tmp_path_factory.mktemp("texts") / "a.txt"
    # A byte order mark is not text, so the file begins with one.
    path.write_bytes(b"\xef\xbb\xbf" + "\n\n".join(paragraphs).encode())
    assert texts_of(path) == paragraphs


def test_nul_and_control_characters_are_text(tmp_path):
    assert texts_of(write(tmp_path / "a.txt", "a\0b\x0c\u2028c\x85d\re")) == [
        "a\0b\x0c\u2028c\x85d\re"
    ]


@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".jsonl.gz"])
def test_invalid_utf8_reports_its_position(tmp_path, ending):
    path = write(tmp_path / f"a{ending}", '{"text": "ü"}\n{"text": "caf'.encode() + b'\xe9"}\n')
    with pytest.raises(BadInput, match=r"is not UTF-8: byte 0xE9 in line 2, at byte 28 of .*iconv"):
        texts_of(path)


def test_utf16_reports_its_position(tmp_path):
    path = write(tmp_path / "a.txt", "hello".encode("utf-16"))
    with pytest.raises(BadInput, match=r"byte 0xFF in line 1, at byte 0.*`iconv -f UTF-16"):
        texts_of(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with a name")
@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".parquet"])
@pytest.mark.timeout(60)  # without the check, opening the pipe never returns
def test_a_pipe_is_refused_before_it_is_opened(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    os.mkfifo(path)
    with pytest.raises(BadInput, match="a pipe or a device, and a file is expected"):
        texts_of(path)


def test_a_truncated_character_after_a_byte_order_mark_reports_its_position(tmp_path):
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfab\xe4\xb8")
    with pytest.raises(BadInput, match="byte 0xE4 in line 1, at byte 5"):
        texts_of(path)


@pytest.mark.parametrize("ending", [".txt.gz", ".parquet"])
@pytest.mark.parametrize("end", [0, 10, 60])
def test_a_damaged_file_is_refused(tmp_path, ending, end):
    path = tmp_path / f"a{ending}"
    if ending == ".parquet":
        pq.write_table(pa.table({"text": ["one"] * 100}), path)
    else:
        write(path, os.urandom(1000).hex())
    path.write_bytes(path.read_bytes()[:end])
    if ending == ".txt.gz" and end == 0:  # gzip reads it as an empty file
        assert texts_of(path) == []
        return
    with pytest.raises(BadInput, match=r"cannot be read \(.+\): check"):
        texts_of(path)


def test_a_file_that_is_not_gzipped_is_refused(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_text('{"text": "one"}')
    with pytest.raises(BadInput, match="cannot be read"):
        texts_of(path)


def test_an_unknown_ending_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"a\.csv ends in none of \.txt, "):
        texts_of(write(tmp_path / "a.csv", "x"))


@pytest.mark.parametrize(
    "source",
    [
        "nothing.txt",
        "./nothing",
        "/no/such/folder",
        "Once upon a time.\nThere",
        "a\0b",
        "x " * 5000,
        "",
    ],
)
def test_a_missing_file_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if source == "":
        source = "~nobody-of-that-name/x.txt"
    with pytest.raises(BadInput, match="There is no file or folder") as error:
        texts_of(source)
    assert len(str(error.value)) < 500


def test_an_unknown_split_on_is_refused(tmp_path):
    with pytest.raises(BadInput, match="'paragraph', 'line' or 'file', and 'word' was passed"):
        read(write(tmp_path / "a.txt", "x"), split_on="word")


def test_a_file_has_no_revision(tmp_path):
    with pytest.raises(BadInput, match="only data sets"):
        read(write(tmp_path / "a.txt", "x"), revision="main")
    with pytest.raises(BadInput, match="only data sets"):
        read(["x"], revision="main")
    with pytest.raises(BadInput, match="only data sets"):
        read(f"hf:{tmp_path}", revision="main")


# ----------------------------------------------------------- JSONL and Parquet


@given(
    st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), max_size=8),
    st.booleans(),
)
def test_jsonl_and_parquet_round_trip(tmp_path_factory, texts, escaped):
    folder = tmp_path_factory.mktemp("texts")
    expected = [text or "" for text in texts]
    lines = [json.dumps({"n": 1, "body": text}, ensure_ascii=escaped) + "\n" for text in texts]
    for ending in (".jsonl", ".jsonl.gz"):
        path = write(folder / f"a{ending}", "".join(lines))
        assert texts_of(path, field="body") == expected
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        table = pa.table({"n": [1] * len(texts), "body": pa.array(texts, pa.string()).cast(kind)})
        pq.write_table(table, folder / "a.parquet", row_group_size=3)
        assert texts_of(folder / "a.parquet", field="body") == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "x"', "a.jsonl, line 2, is not JSON"),
        ("[" * 100_000, "a.jsonl, line 2, is not JSON"),
        ('"x"', "a.jsonl, line 2, holds a JSON value of type str"),
        ('{"title": "x", "body": "y"}', "line 2, has no field 'text'. Its fields: 'title', 'body'"),
        ("{}", "line 2, has no field 'text'. Its fields: none"),
        ('{"text": 3}', "line 2, holds a value of type int"),
        ('{"text": ["x"]}', "line 2, holds a value of type list"),
        (
            '{"text": "a\\ud83d"}',
            r"line 2, holds half of a surrogate pair \(U\+D83D, character 1\)",
        ),
    ],
)
def test_bad_json_lines_are_reported_by_number(tmp_path, line, message):
    with pytest.raises(BadInput, match=message):
        texts_of(write(tmp_path / "a.jsonl", f'{{"text": "fine"}}\n{line}\n'))


def test_blank_json_lines_are_skipped(tmp_path):
    assert texts_of(write(tmp_path / "a.jsonl", '\n{"text": "x"}\n \n')) == ["x"]


def test_missing_or_numeric_parquet_columns_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": [1], "body": ["x"]}), path)
    with pytest.raises(BadInput, match=r"has no field 'text'\. Its fields: 'n', 'body'"):
        texts_of(path)
    with pytest.raises(
        BadInput, match=r"holds int64, and text is expected\. Its columns: 'n', 'body'"
    ):
        texts_of(path, field="n")


def test_invalid_utf8_in_parquet_reports_its_row(tmp_path):
    bad = pa.Array.from_buffers(
        pa.string(),
        2,
        [None, pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0])), pa.py_buffer(b"ab\xff")],
    )
    pq.write_table(pa.table({"text": bad}), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match=r"row 1, is not UTF-8 \(byte 1 of the text\)"):
        texts_of(tmp_path / "a.parquet")


# ----------------------------------------------------------- folders and lists


def test_a_folder_is_read_in_name_order(tmp_path):
    folder = tmp_path / "notes"
    (folder / "b").mkdir(parents=True)
    (folder / ".git").mkdir()
    write(folder / "c.md", "five\n\nsix")
    write(folder / "b" / "z.jsonl", '{"text": "three"}\n{"text": "four"}')
    pq.write_table(pa.table({"text": ["two"]}), folder / "b" / "a.parquet")
    write(folder / "a.txt.gz", "one")
    write(folder / "b" / "image.png", b"\x89PNG")
    write(folder / ".hidden.txt", "no")
    write(folder / ".git" / "a.txt", "no")
    found = read(str(folder))
    assert (found.name, found.source) == ("notes", str(folder))
    assert list(found.documents) == ["one", "two", "three", "four", "five", "six"]


def test_a_folder_without_readable_files_is_refused(tmp_path):
    write(tmp_path / "a.csv", "x")
    with pytest.raises(BadInput, match=r"holds no file that ends in \.txt"):
        read(tmp_path)


def test_an_error_in_a_folder_names_the_file(tmp_path):
    write(tmp_path / "a.jsonl", '{"text": "x"}')
    write(tmp_path / "b.jsonl", '{"body": "x"}')
    with pytest.raises(BadInput, match=r"b\.jsonl, line 1, has no field 'text'"):
        texts_of(tmp_path)


def test_a_list_of_strings_is_read_as_it_is():
    found = read(["one", "", "two\n\nparagraphs", "\0"])
    assert (found.name, found.source, found.revision) == ("texts", "memory", None)
    assert list(found.documents) == ["one", "", "two\n\nparagraphs", "\0"]
    with pytest.raises(BadInput, match="Text 1 of the list holds a value of type int"):
        texts_of(["one", 2])
    with pytest.raises(BadInput, match="Text 0 of the list holds half of a surrogate pair"):
        texts_of(["\udc80"])


# -------------------------------------------------------------------- data sets


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Disable network access of the datasets library, and give it an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def local_data_set(folder: Path) -> Path:
    folder.mkdir()
    pq.write_table(
        pa.table({"n": [1, 2, 3], "text": ["one", None, "two"]}), folder / "train.parquet"
    )
    pq.write_table(pa.table({"n": [4], "text": ["three"]}), folder / "test.parquet")
    return folder


def cached_data_set(folder: Path) -> None:
    """Write a data set to the cache of the datasets library as a download from the hub does."""
    local = local_data_set(folder / "stories")
    datasets.load_dataset(str(local), cache_dir=str(folder / "made"))
    (made,) = (folder / "made" / "stories").glob("*/*/*/")
    into = folder / "cache" / "owner___stories" / "default" / "0.0.0" / COMMIT
    into.parent.mkdir(parents=True)
    made.rename(into)
    info = json.loads((into / "dataset_info.json").read_text())
    (into / "dataset_info.json").write_text(json.dumps(info | {"config_name": "default"}))
    for file in local.iterdir():
        file.unlink()
    local.rmdir()


@pytest.mark.slow
def test_a_local_data_set_is_read_by_split(offline):
    folder = local_data_set(offline / "stories")
    found = read(f"hf:{folder}")
    assert (found.name, found.source, found.revision) == ("stories", f"hf:{folder} (train)", None)
    assert list(found.documents) == ["one", "", "two"]
    assert texts_of(f"hf:{folder}", split="test") == ["three"]
    with pytest.raises(BadInput, match=r"split.*nope"):
        read(f"hf:{folder}", split="nope")
    with pytest.raises(BadInput, match=r"has no field 'body'\. Its fields: 'n', 'text'"):
        texts_of(f"hf:{folder}", field="body")
    with pytest.raises(BadInput, match=r"row 0, holds a value of type int.* with `field`"):
        texts_of(f"hf:{folder}", field="n")


def test_a_saved_data_set_is_read_by_split(offline):
    parts = {"train": ["one", "two"], "test": ["three"]}
    made = {split: datasets.Dataset.from_dict({"text": texts}) for split, texts in parts.items()}
    datasets.DatasetDict(made).save_to_disk(str(offline / "dict"))
    made["test"].save_to_disk(str(offline / "one"))
    assert texts_of(offline / "dict") == ["one", "two"]
    assert texts_of(str(offline / "dict"), split="test") == ["three"]
    assert texts_of(f"hf:{offline / 'one'}") == ["three"]
    with pytest.raises(BadInput, match=r"has no split 'nope'\. Its splits: train, test"):
        read(offline / "dict", split="nope")


@pytest.mark.parametrize("name", ["hf:owner/stories", "owner/stories", "hf:owner/stories/default"])
def test_a_cached_data_set_is_pinned(offline, monkeypatch, name):
    monkeypatch.chdir(offline)
    cached_data_set(offline)
    found = read(name)
    assert found.revision == COMMIT
    assert found.source == f"hf:{name.removeprefix('hf:')} (train)"
    assert list(found.documents) == ["one", "", "two"]
    assert texts_of(name, revision=COMMIT) == ["one", "", "two"]


@pytest.mark.parametrize("revision", ["f" * 40, "v1", "main"])
def test_another_revision_than_the_cached_one_is_missing(offline, revision):
    cached_data_set(offline)
    with pytest.raises(Missing, match=f"at commit {COMMIT}, and '{revision}' was requested"):
        read("hf:owner/stories", revision=revision)


def test_the_hub_pins_a_branch_to_its_commit(monkeypatch):
    requested = []

    class Builder:
        hash = COMMIT
        name = "parquet"

        def as_streaming_dataset(self, split):
            requested.append(split)
            return datasets.Dataset.from_dict({"text": ["one"], "n": [1]}).to_iterable_dataset()

    def load_dataset_builder(path, config, *, revision):
        requested.extend([path, config, revision])
        return Builder()

    monkeypatch.setattr(datasets, "load_dataset_builder", load_dataset_builder)
    found = read("hf:owner/stories/en", split="validation", revision="v1")
    assert requested == ["owner/stories", "en", "v1", "validation"]
    assert (found.name, found.revision, list(found.documents)) == ("stories-en", COMMIT, ["one"])


@pytest.mark.parametrize("name", ["hf:owner/nothing", "nothing"])
def test_a_data_set_that_cannot_be_downloaded_is_missing(offline, monkeypatch, name):
    monkeypatch.chdir(offline)
    with pytest.raises(Missing) as error:
        read(name)
    message = str(error.value)
    assert "nothing" in message
    assert "HF_HUB_OFFLINE" in message
    assert ("no file or folder" in message) == (name == "nothing")
    assert "\n" not in message


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionError("broken off"),
        huggingface_hub.errors.HfHubHTTPError.__mro__[1]("broken off"),
        datasets.exceptions.DatasetNotFoundError("broken off"),
    ],
)
def test_an_interrupted_stream_is_reported(monkeypatch, failure):
    class Stream:
        column_names = None

        def __iter__(self):
            yield {"text": "one"}
            raise failure

    class Builder:
        hash = COMMIT
        name = "parquet"

        def as_streaming_dataset(self, split):
            return Stream()

    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: Builder())
    documents = read("hf:owner/stories").documents
    assert next(documents) == "one"
    with pytest.raises((Missing, BadInput), match="owner/stories"):
        next(documents)


def test_settings_of_the_datasets_library_are_restored(offline):
    folder = local_data_set(offline / "stories")
    datasets.disable_progress_bars()
    before = datasets.logging.get_verbosity()
    texts_of(f"hf:{folder}")
    try:
        assert datasets.are_progress_bars_disabled()
        assert datasets.logging.get_verbosity() == before
    finally:
        datasets.enable_progress_bars()


def test_an_atlas_in_a_folder_is_not_read_as_text(tmp_path):
    (tmp_path / "a.txt").write_text("one document", "utf-8")
    inner = tmp_path / "old.atlas"
    inner.mkdir()
    (inner / "atlas.json").write_text("{}", "utf-8")
    (inner / "b.txt").write_text("not of the text", "utf-8")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "c.txt").write_text("two", "utf-8")
    assert texts_of(tmp_path) == ["one document", "two"]
