"""Readers of texts: iterate over the documents of a file, a folder, a data set or a list of strings.

====================  ============================================================
``.txt``, ``.md``     paragraphs, lines or the complete file (``split_on``)
``.jsonl``            the field ``text`` of each line
``.parquet``          the column ``text``
a folder              all such files below it, sorted by name, except those of an
                      atlas
``hf:owner/name``     a data set, read as a stream by the datasets library; with a
                      configuration ``hf:owner/name/config``
a list of strings     each string
====================  ============================================================

All files but Parquet may be gzipped (``.gz``). This module translates errors of
Arrow, JSON, gzip, the operating system and the datasets library.
"""

import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, cast

import pyarrow as pa
import pyarrow.parquet as pq

from atlas.errors import BadInput, Missing
from ingest.text.user_files import how_to_convert, refuse_pipe

if TYPE_CHECKING:
    from datasets import IterableDataset

__all__ = ["ENDINGS", "Source", "SplitOn", "Texts", "read"]

Source: TypeAlias = "str | Path | Sequence[str]"
SplitOn: TypeAlias = Literal["paragraph", "line", "file"]

ENDINGS = (".txt", ".txt.gz", ".md", ".md.gz", ".jsonl", ".jsonl.gz", ".parquet")
"""Endings of the files that can be read."""

LONGEST = 2**28
"""Most characters of a document, since a document and its tokens are in memory."""

_DATA_SET = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*){0,2}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Texts:
    """The documents of an opened source.

    Parameters
    ----------
    name
        A name, derived from the source.
    source
        The source, as it is recorded.
    revision
        Commit of the data set; None if there is none or the hub does not report it.
    documents
        The texts, read lazily. An empty or null document of the source gives an
        empty text.
    """

    name: str
    source: str
    revision: str | None
    documents: Iterator[str]


def read(
    source: Source,
    *,
    split: str = "train",
    field: str = "text",
    revision: str | None = None,
    split_on: SplitOn = "paragraph",
) -> Texts:
    """Open a source of documents.

    Parameters
    ----------
    source
        A file, a folder, the name of a data set or a list of strings; see the module.
        A name without ``hf:`` names a data set if no file or folder has that name.
        A folder that ``datasets`` saved is read as a data set.
    split
        The split of a data set.
    field
        Field or column that holds the text.
    revision
        Branch, tag or commit of a data set; the newest if None.
    split_on
        The unit that is one document in ``.txt`` and ``.md`` files: a paragraph
        (separated by blank lines), a line, or the complete file.

    Raises
    ------
    BadInput
        If there is no such source or it cannot be used. Iterating over the
        documents also raises it, for an invalid document.
    Missing
        If a data set is neither on this machine nor can be downloaded.
    """
    if split_on not in ("paragraph", "line", "file"):
        raise BadInput(
            f"split_on must be 'paragraph', 'line' or 'file', and {split_on!r} was passed."
        )
    if isinstance(source, str) and source.startswith("hf:"):
        return _data_set(source.removeprefix("hf:"), split=split, field=field, revision=revision)
    if not isinstance(source, (str, Path)):
        _refuse_revision(revision)
        return Texts("texts", "memory", None, _strings(source))
    if not _exists(source):
        return _by_name(str(source), split=split, field=field, revision=revision)
    path = Path(source).expanduser()
    if _is_saved_data_set(path):
        return _data_set(str(path), split=split, field=field, revision=revision)
    _refuse_revision(revision)
    files = _files(path) if path.is_dir() else [path]
    documents = (text for file in files for text in _reader(file)(file, field, split_on))
    name = path.resolve().name
    ending = "" if path.is_dir() else _ending(path) or ""
    return Texts(name[: len(name) - len(ending)], str(source), None, documents)


def _refuse_revision(revision: str | None) -> None:
    if revision is not None:
        raise BadInput(
            f"The revision {revision!r} was requested, but only data sets at the hub have revisions. "
            "Omit it."
        )


def _exists(source: str | Path) -> bool:
    try:
        return Path(source).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # not a path: too long, a NUL, no such user
        return False


def _by_name(source: str, *, split: str, field: str, revision: str | None) -> Texts:
    """Open a source that is no file or folder as a data set, if its name is a valid one."""
    if not _DATA_SET.fullmatch(source) or source.lower().endswith(ENDINGS):
        shown = source if len(source) < 200 else f"{source[:100]}…"
        raise BadInput(
            f"There is no file or folder {shown!r}, and it is not a valid name of a data set. Name a file, "
            "a folder or a data set (hf:owner/name). To pass the text itself, use Python and a list of "
            "strings."
        )
    try:
        return _data_set(source, split=split, field=field, revision=revision)
    except (Missing, BadInput) as error:
        raise type(error)(f"There is no file or folder {source!r}. {error}") from error


# ------------------------------------------------------------------ documents


def _document(value: object, location: str) -> str:
    """Return the text of a document, or raise ``BadInput`` that names the location of the value."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadInput(
            f"{location} holds a value of type {type(value).__name__}, and a text is expected. Name the field "
            "that holds the text with `field`."
        )
    if len(value) > LONGEST:
        raise BadInput(
            f"{location} holds a document of {len(value):,} characters, and at most {LONGEST:,} are allowed. "
            "Split it into several documents."
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{location} holds half of a surrogate pair (U+{ord(value[error.start]):04X}, character "
            f"{error.start}), which is not a valid character. Repair the text, for example with "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from error
    return value


def _strings(texts: Iterable[object]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield _document(text, f"Text {number} of the list")


# ---------------------------------------------------------------------- files


def _ending(path: Path) -> str | None:
    name = path.name.lower()
    return next((e for e in sorted(ENDINGS, key=len, reverse=True) if name.endswith(e)), None)


def _reader(path: Path) -> "Callable[[Path, str, SplitOn], Iterator[str]]":
    ending = _ending(path)
    if ending is None:
        raise BadInput(
            f"{path} ends in none of {', '.join(ENDINGS)}. Rename it if it has one of these formats, or "
            "convert it."
        )
    refuse_pipe(path)
    if ending == ".parquet":
        return _parquet_file
    return _json_file if ".jsonl" in ending else _text_file


def _files(folder: Path) -> list[Path]:
    """Return the readable files below a folder, sorted by name, without hidden files and atlases."""
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise error

    with _readable(folder):
        for at, folders, names in os.walk(folder, onerror=refuse):
            folders[:] = [
                f
                for f in folders
                if not f.startswith(".") and not (Path(at) / f / "atlas.json").is_file()
            ]
            found.extend(Path(at, n) for n in names if not n.startswith("."))
    found = [f for f in found if _ending(f)]
    if not found:
        raise BadInput(
            f"The folder {folder} holds no file that ends in {', '.join(ENDINGS)}. Name another folder, or "
            "the file itself."
        )
    return sorted(found, key=lambda f: f.relative_to(folder).parts)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Translate errors of reading a file."""
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["damaged"])[0]
        raise BadInput(
            f"{path} cannot be read ({reason}): check that it exists, is complete, and that you may read it."
        ) from error


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, without line ends and without a byte order mark."""
    with _readable(path), _opened(path) as file:
        offset = 0
        for number, line in enumerate(iter(lambda: file.readline(4 * LONGEST), b""), start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                at = len(line) - len(error.object) + error.start
                raise BadInput(
                    f"{path} is not UTF-8: byte 0x{line[at]:02X} in line {number}, at byte {offset + at:,} of "
                    f"the text, does not begin a character. {how_to_convert(line if number == 1 else b'')}"
                ) from error
            offset += len(line)
            yield text.removesuffix("\n").removesuffix("\r")


def _opened(path: Path) -> BinaryIO:
    zipped = path.name.lower().endswith(".gz")
    return cast("BinaryIO", gzip.open(path, "rb") if zipped else path.open("rb"))


def _text_file(path: Path, field: str, split_on: SplitOn) -> Iterator[str]:
    lines: list[str] = []
    begin = 1
    for number, line in enumerate(_lines(path), start=1):
        if split_on == "line":
            yield _document(line, f"{path}, line {number},")
        elif split_on == "file" or line.strip():
            lines.append(line)
        else:
            if lines:
                yield _document("\n".join(lines), f"{path}, line {begin},")
            lines, begin = [], number + 1
    if lines:
        yield _document("\n".join(lines), f"{path}, line {begin},")


def _json_file(path: Path, field: str, split_on: SplitOn) -> Iterator[str]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        location = f"{path}, line {number},"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(
                f"{location} is not JSON ({error}): expected one object per line, such as "
                '{"text": "…"}.'
            ) from error
        if not isinstance(row, dict):
            raise BadInput(
                f"{location} holds a JSON value of type {type(row).__name__}: expected one object per line, "
                'such as {"text": "…"}.'
            )
        yield _document(_field(row, field, location), location)


def _field(row: "dict[str, object]", field: str, location: str) -> object:
    if field not in row:
        raise _no_field(location, field, row)
    return row[field]


def _no_field(location: str, field: str, fields: Iterable[str]) -> BadInput:
    present = ", ".join(map(repr, fields)) or "none"
    return BadInput(
        f"{location} has no field {field!r}. Its fields: {present}; name the one with the text."
    )


def _parquet_file(path: Path, field: str, split_on: SplitOn) -> Iterator[str]:
    with _readable(path), pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if field not in names:
            raise _no_field(str(path), field, names)
        kind = file.schema_arrow.field(field).type
        values = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not _is_text(values):
            raise BadInput(
                f"The column {field!r} of {path} holds {kind}, and text is expected. Its columns: "
                f"{', '.join(map(repr, names))}; name the one with the text."
            )
        row = 0
        for batch in file.iter_batches(batch_size=1024, columns=[field]):
            for value in batch.column(0):
                location = f"{path}, row {row},"
                try:
                    text = value.as_py()
                except UnicodeDecodeError as error:
                    raise BadInput(
                        f"{location} is not UTF-8 (byte {error.start} of the text). Write the file again "
                        "from valid UTF-8."
                    ) from error
                yield _document(text, location)
                row += 1


def _is_text(kind: Any) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


# ------------------------------------------------------------------ data sets


def _is_saved_data_set(path: Path) -> bool:
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _data_set(name: str, *, split: str, field: str, revision: str | None) -> Texts:
    """Open a data set as a stream, pinned to the current commit of its revision."""
    if Path(name).is_dir():
        _refuse_revision(revision)
    with _loading(name):
        if _is_saved_data_set(Path(name)):
            stream, pinned = _saved(name, split), None
        else:
            stream, pinned = _streamed(name, split, revision)
        columns = stream.column_names  # reads the first row if the hub does not report them
    if columns is not None and field not in columns:
        raise _no_field(f"The data set {name!r}", field, columns)
    if columns is not None:
        stream = stream.select_columns([field])
    short = Path(name).resolve().name if Path(name).is_dir() else name.split("/", 1)[-1]
    documents = _rows(stream, name, field)
    return Texts(short.replace("/", "-"), f"hf:{name} ({split})", pinned, documents)


def _saved(folder: str, split: str) -> "IterableDataset":
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(folder)
    if isinstance(saved, DatasetDict):
        if split not in saved:
            raise BadInput(
                f"The data set {folder!r} has no split {split!r}. Its splits: {', '.join(saved)}."
            )
        saved = saved[split]
    return saved.to_iterable_dataset()


def _streamed(name: str, split: str, revision: str | None) -> "tuple[IterableDataset, str | None]":
    from datasets import load_dataset_builder

    config = None
    path = name
    if not Path(name).is_dir() and name.count("/") == 2:
        path, config = name.rsplit("/", 1)
    builder = load_dataset_builder(path, config, revision=revision)
    # The library's hash of a data set of the hub is the commit, from its cache too.
    commit = builder.hash if _COMMIT.fullmatch(builder.hash or "") else None
    # From its cache the library returns any commit that is stored.
    certain = revision in (None, commit) or (builder.name != "cache" and commit is not None)
    if not certain:
        raise Missing(
            f"The data set {name!r} is on this machine at commit {commit}, and {revision!r} was requested. "
            "Repeat with a connection to the hub, or request that commit."
        )
    return builder.as_streaming_dataset(split=split), commit


def _rows(stream: "IterableDataset", name: str, field: str) -> Iterator[str]:
    with _loading(name):
        for number, row in enumerate(stream):
            location = f"The data set {name!r}, row {number},"
            yield _document(_field(row, field, location), location)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Translate errors of the datasets library, and silence it."""
    import datasets
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the client that the hub's library uses

    from ingest.error_translation import reached

    repo = None if Path(name).is_dir() else "datasets/" + "/".join(name.split("/")[:2])
    verbosity = datasets.logging.get_verbosity()
    bars = not datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        with reached("data set", name, repo=repo):
            try:
                yield
            except HTTPError as error:
                if isinstance(error, OSError):  # a response of the hub, which `reached` translates
                    raise
                raise ConnectionError(str(error)) from error
            except DatasetsError as error:
                raise RuntimeError(str(error)) from error
    finally:
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()
