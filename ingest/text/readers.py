"""Readers of texts: a file, a folder, a data set or a list of strings gives documents, one by one.

====================  ============================================================
``.txt``, ``.md``     paragraphs, lines or the whole file (``split_on``)
``.jsonl``            the field ``text`` of each line
``.parquet``          the column ``text``
a folder              all such files below it, in the order of their names; not
                      those of an atlas
``hf:owner/name``     a data set, read as a stream by the datasets library; with a
                      configuration ``hf:owner/name/config``
a list of strings     each string
====================  ============================================================

All but Parquet may be gzipped (``.gz``). Errors of Arrow, JSON, gzip, the
operating system and the datasets library are translated here.
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

if TYPE_CHECKING:
    from datasets import IterableDataset

__all__ = ["ENDINGS", "Source", "SplitOn", "Texts", "read"]

Source: TypeAlias = "str | Path | Sequence[str]"
SplitOn: TypeAlias = Literal["paragraph", "line", "file"]

ENDINGS = (".txt", ".txt.gz", ".md", ".md.gz", ".jsonl", ".jsonl.gz", ".parquet")
"""Endings of the files that can be read."""

LONGEST = 2**28
"""Characters of a document at most: a document is held in memory, and its tokens are too."""

_DATA_SET = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*){0,2}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Texts:
    """Documents that are about to be read.

    Parameters
    ----------
    name
        A name for them, made from the source's.
    source
        Where they come from, as it is recorded.
    revision
        Commit of the data set; None where there is none, or where the hub did not say.
    documents
        The texts, read as they are asked for; an empty one where the source has
        an empty or a null one.
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
        A file, a folder, a data set's name or a list of strings; see the module.
        A name without ``hf:`` is a data set's if there is no file or folder of
        that name. A folder that ``datasets`` saved is read as a data set.
    split
        Which split of a data set.
    field
        Field or column that holds the text.
    revision
        Branch, tag or commit of a data set; the newest if None.
    split_on
        What is a document in ``.txt`` and ``.md`` files: a paragraph (blank
        lines stand between them), a line, or the whole file.

    Raises
    ------
    BadInput
        If there is no such source or it cannot be used; while the documents are
        read also, for what is wrong in one of them.
    Missing
        If a data set is neither on this machine nor within reach.
    """
    if split_on not in ("paragraph", "line", "file"):
        raise BadInput(
            f"A text can be split on 'paragraph', 'line' or 'file', and {split_on!r} was given."
        )
    if isinstance(source, str) and source.startswith("hf:"):
        return _data_set(source.removeprefix("hf:"), split=split, field=field, revision=revision)
    if not isinstance(source, (str, Path)):
        _refuse(revision)
        return Texts("texts", "memory", None, _strings(source))
    if not _is_there(source):
        return _by_name(str(source), split=split, field=field, revision=revision)
    path = Path(source).expanduser()
    if _is_saved_data_set(path):
        return _data_set(str(path), split=split, field=field, revision=revision)
    _refuse(revision)
    found = _files(path) if path.is_dir() else [path]
    documents = (text for file in found for text in _reader(file)(file, field, split_on))
    name = path.resolve().name
    ending = "" if path.is_dir() else _ending(path) or ""
    return Texts(name[: len(name) - len(ending)], str(source), None, documents)


def _refuse(revision: str | None) -> None:
    if revision is not None:
        raise BadInput(
            f"The revision {revision!r} was asked for, and only data sets at the hub have revisions: "
            "leave it out."
        )


def _is_there(source: str | Path) -> bool:
    try:
        return Path(source).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, no such user: no path at all
        return False


def _by_name(source: str, *, split: str, field: str, revision: str | None) -> Texts:
    """Read what is no file or folder: a data set, if its name could be one."""
    if not _DATA_SET.fullmatch(source) or source.lower().endswith(ENDINGS):
        said = source if len(source) < 200 else f"{source[:100]}…"
        raise BadInput(
            f"There is no file or folder {said!r}, and a data set has no such name. Name a file, a folder or "
            "a data set (hf:owner/name); a text itself is given from Python, as a list of strings."
        )
    try:
        return _data_set(source, split=split, field=field, revision=revision)
    except (Missing, BadInput) as error:
        raise type(error)(f"There is no file or folder {source!r}. {error}") from error


# ------------------------------------------------------------------ documents


def _document(value: object, place: str) -> str:
    """Return a document's text, or say what is wrong with the value found at a place."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadInput(
            f"{place} holds a value of type {type(value).__name__} where a text is expected: name the field "
            "that holds the text."
        )
    if len(value) > LONGEST:
        raise BadInput(
            f"{place} holds a document of {len(value):,} characters, and {LONGEST:,} is the most: cut it "
            "into several."
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{place} holds half of a surrogate pair (U+{ord(value[error.start]):04X}, character "
            f"{error.start}), which is no character: repair the text, for example with "
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
            f"{path} ends in none of {', '.join(ENDINGS)}: rename it if it is one of these, or convert it."
        )
    if ending == ".parquet":
        return _parquet_file
    return _json_file if ".jsonl" in ending else _text_file


def _files(folder: Path) -> list[Path]:
    """Return the readable files below a folder, in name order; hidden ones and atlases are passed over."""
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise error

    with _readable(folder):
        for at, folders, names in os.walk(folder, onerror=refuse):
            folders[:] = [
                f for f in folders
                if not f.startswith(".") and not (Path(at) / f / "atlas.json").is_file()
            ]  # fmt: skip
            found.extend(Path(at, n) for n in names if not n.startswith("."))
    found = [f for f in found if _ending(f)]
    if not found:
        raise BadInput(
            f"The folder {folder} holds no file that ends in {', '.join(ENDINGS)}: name another folder or "
            "the file itself."
        )
    return sorted(found, key=lambda f: f.relative_to(folder).parts)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Translate what goes wrong while a file is read."""
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["damaged"])[0]
        raise BadInput(
            f"{path} cannot be read ({reason}): check that it is there, whole, and yours to read."
        ) from error


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their ends, a byte order mark left out."""
    with _readable(path), _opened(path) as file:
        offset = 0
        for number, line in enumerate(iter(lambda: file.readline(4 * LONGEST), b""), start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                at = len(line) - len(error.object) + error.start
                raise BadInput(
                    f"{path} is not UTF-8: byte 0x{line[at]:02X} in line {number}, at byte {offset + at:,} of "
                    "the text, begins no character. Find out its encoding and convert it, for example with "
                    f"`iconv -f WINDOWS-1252 -t UTF-8`."
                ) from error
            offset += len(line)
            yield text.removesuffix("\n").removesuffix("\r")


def _opened(path: Path) -> BinaryIO:
    zipped = path.name.lower().endswith(".gz")
    return cast("BinaryIO", gzip.open(path, "rb") if zipped else path.open("rb"))


def _text_file(path: Path, field: str, split_on: SplitOn) -> Iterator[str]:
    held: list[str] = []
    begin = 1
    for number, line in enumerate(_lines(path), start=1):
        if split_on == "line":
            yield _document(line, f"{path}, line {number},")
        elif split_on == "file" or line.strip():
            held.append(line)
        else:
            if held:
                yield _document("\n".join(held), f"{path}, line {begin},")
            held, begin = [], number + 1
    if held:
        yield _document("\n".join(held), f"{path}, line {begin},")


def _json_file(path: Path, field: str, split_on: SplitOn) -> Iterator[str]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number},"
        try:
            said = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(
                f'{place} is not JSON ({error}): expected one object a line, such as {{"text": "…"}}.'
            ) from error
        if not isinstance(said, dict):
            raise BadInput(
                f"{place} holds a JSON value of type {type(said).__name__}: expected one object a line, such "
                'as {"text": "…"}.'
            )
        yield _document(_field(said, field, place), place)


def _field(row: "dict[str, object]", field: str, place: str) -> object:
    if field not in row:
        raise _no_field(place, field, row)
    return row[field]


def _no_field(place: str, field: str, fields: Iterable[str]) -> BadInput:
    there = ", ".join(map(repr, fields)) or "none"
    return BadInput(
        f"{place} has no field {field!r}. Its fields: {there}; name the one with the text."
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
                f"The column {field!r} of {path} holds {kind} where text is expected. Its columns: "
                f"{', '.join(map(repr, names))}; name the one with the text."
            )
        row = 0
        for batch in file.iter_batches(batch_size=1024, columns=[field]):
            for value in batch.column(0):
                place = f"{path}, row {row},"
                try:
                    text = value.as_py()
                except UnicodeDecodeError as error:
                    raise BadInput(
                        f"{place} is not UTF-8 (byte {error.start} of the text): write the file anew from "
                        "text that is."
                    ) from error
                yield _document(text, place)
                row += 1


def _is_text(kind: Any) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


# ------------------------------------------------------------------ data sets


def _is_saved_data_set(path: Path) -> bool:
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _data_set(name: str, *, split: str, field: str, revision: str | None) -> Texts:
    """Open a data set as a stream, pinned to the commit that its revision stands for now."""
    if Path(name).is_dir():
        _refuse(revision)
    with _loading(name):
        if _is_saved_data_set(Path(name)):
            stream, pinned = _saved(name, split), None
        else:
            stream, pinned = _streamed(name, split, revision)
        columns = stream.column_names  # asks for the first row where the hub does not say
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
                f"The data set {folder!r} has no split {split!r}. There are: {', '.join(saved)}."
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
    # The library's hash of a data set from the hub is the commit, out of its cache too.
    commit = builder.hash if _COMMIT.fullmatch(builder.hash or "") else None
    # Out of its cache the library gives whatever commit is there.
    certain = revision in (None, commit) or (builder.name != "cache" and commit is not None)
    if not certain:
        raise Missing(
            f"The data set {name!r} is on this machine at commit {commit}, and {revision!r} was asked for: "
            "repeat with a connection to the hub, or ask for that commit."
        )
    return builder.as_streaming_dataset(split=split), commit


def _rows(stream: "IterableDataset", name: str, field: str) -> Iterator[str]:
    with _loading(name):
        for number, row in enumerate(stream):
            place = f"The data set {name!r}, row {number},"
            yield _document(_field(row, field, place), place)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Translate the errors of the datasets library, and keep it from printing."""
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
                if isinstance(error, OSError):  # an answer of the hub's, which is understood
                    raise
                raise ConnectionError(str(error)) from error
            except DatasetsError as error:
                raise RuntimeError(str(error)) from error
    finally:
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()
