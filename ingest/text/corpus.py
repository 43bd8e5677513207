"""The corpus: an atlas' documents in blocks, kept in one Parquet file.

A block is a run of whole documents of about 64 KiB of text, cut once and the
same for every tokenizer. Each is one row group, so that a block is read alone,
and memory does not grow with the corpus.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.atomic_files import placed
from atlas.errors import BadInput, BrokenPart, NewerFormat
from atlas.progress import SILENT, Progress
from ingest.text import readers
from ingest.text.readers import Source, SplitOn, Texts

__all__ = ["BLOCK_BYTES", "Corpus", "CorpusInfo", "Document", "cut"]

FORMAT = 1
BLOCK_BYTES = 64 * 1024
OVERSHOOT = 0.1
"""Share of a limit on tokens by which the last document may exceed it uncut."""
"""A block is closed once it holds this many bytes of UTF-8."""

_INFO = b"atlas.corpus"
_SCHEMA = pa.schema(
    [
        pa.field("document", pa.int64(), nullable=False),
        pa.field("block", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)

Count = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True, slots=True)
class Document:
    """A document: its number in the corpus, from 0, and its text."""

    number: int
    text: str


@dataclass(frozen=True)
class CorpusInfo:
    """What a corpus is.

    Parameters
    ----------
    id
        First 12 hex digits of the SHA-256 over the documents in order: for each the
        number of its bytes (8 bytes, little-endian) and its UTF-8.
    name
        Its name.
    source
        File, folder or data set it was read from, or ``"memory"``.
    revision
        Commit of the data set, where there is one.
    documents, characters, bytes
        Number of documents, and the length of all in characters and in UTF-8.
    blocks
        Number of blocks.
    empty
        Documents of the source that were left out because they are blank.
    """

    id: str
    name: str
    source: str
    revision: str | None
    documents: int
    characters: int
    bytes: int
    blocks: int
    empty: int


class Corpus:
    """The documents of an atlas, block by block.

    ``len(corpus)`` is the number of blocks.
    """

    def __init__(self, path: Path, info: CorpusInfo, file: pq.ParquetFile) -> None:
        self.path = path
        self.info = info
        self._file = file

    @classmethod
    def gather(
        cls,
        source: "Source | Texts",
        into: Path,
        *,
        name: str | None = None,
        revision: str | None = None,
        split: str = "train",
        field: str = "text",
        split_on: SplitOn = "paragraph",
        tokens: int | None = None,
        count: Count | None = None,
        progress: Progress = SILENT,
    ) -> "Corpus":
        """Read documents, cut them into blocks and write them into one file.

        Parameters
        ----------
        source
            A file, a folder, a data set's name or a list of strings; ``ingest.text.readers``
            says how each is read. Or what it has opened already.
        into
            The file to write; it is placed when it is whole.
        name
            The corpus' name; made from the source's if None.
        revision, split, field, split_on
            See ``ingest.text.readers.read``.
        tokens
            Stop after the document in which this many tokens are reached; where that document
            exceeds the number by more than a tenth, it is cut.
        count
            Gives the tokens of each of some documents; needed with ``tokens``.
        progress
            Told how far the work is, and how many documents were blank.

        Raises
        ------
        BadInput
            If the source cannot be used, has nothing in it, or has fewer tokens
            than were asked for.
        Missing
            If a data set is neither on this machine nor within reach.
        OutOfRoom
            If the disk is full.
        """
        if tokens is not None and tokens < 1:
            raise BadInput(f"{tokens} tokens were asked for: ask for at least one.")
        found = (
            source if isinstance(source, Texts)
            else readers.read(source, split=split, field=field, revision=revision, split_on=split_on)
        )  # fmt: skip
        filled = _Filled(found.documents, source=found.source)
        blocks: Iterable[list[str]] = cut(filled)
        if tokens is not None:
            if count is None:
                raise TypeError("gather() needs `count` to stop at a number of tokens.")
            blocks = _until(blocks, tokens, count, source=found.source)
        with (
            _told(into),
            placed(into) as beside,
            beside.open("wb") as file,
            _Writer(file) as writer,
            progress.stage("Reading the text", unit="documents") as stage,
        ):
            for block in blocks:
                writer.add(block)
                stage.advance(len(block))
            writer.finish(name or found.name, found.source, found.revision, empty=filled.empty)
        if filled.empty:
            progress.report(f"{filled.empty:,} blank documents of {found.source} were left out.")
        return cls.open(into)

    @classmethod
    def open(cls, path: Path) -> "Corpus":
        """Open a corpus for reading.

        Raises
        ------
        BrokenPart
            If the file is not there, or is not a whole corpus.
        NewerFormat
            If a newer version of this program wrote it.
        """
        with _sound(path):
            file = pq.ParquetFile(path, page_checksum_verification=True)
            said = json.loads((file.metadata.metadata or {})[_INFO])
            if said.pop("format") > FORMAT:
                raise NewerFormat(
                    f"The corpus {path} was written by a newer version of this program: upgrade it "
                    "(`pip install --upgrade feature-atlas`)."
                )
            info = CorpusInfo(**said)
            if not file.schema_arrow.equals(_SCHEMA) or (info.documents, info.blocks) != (
                file.metadata.num_rows,
                file.num_row_groups,
            ):
                raise ValueError("its rows are not what it says")
            return cls(path, info, file)

    def __len__(self) -> int:
        return self.info.blocks

    def block(self, number: int) -> tuple[Document, ...]:
        """Read the documents of a block.

        Raises
        ------
        IndexError
            If there is no such block.
        BrokenPart
            If the file has been damaged.
        """
        if not 0 <= number < len(self):
            raise IndexError(
                f"{self.path} has {len(self)} blocks, and block {number} was asked for."
            )
        with _sound(self.path):
            # Threads would cost more than they save on 64 KiB.
            table = self._file.read_row_group(number, use_threads=False)
            columns = [column.to_pylist() for column in table.columns]
        return tuple(Document(n, text) for n, _, text in zip(*columns, strict=True))

    def verify(self) -> None:
        """Read every document and make sure that they are those that were written.

        Raises
        ------
        BrokenPart
            If they are not.
        """
        digest = hashlib.sha256()
        for number in range(len(self)):
            for document in self.block(number):
                _feed(digest, document.text.encode())
        if digest.hexdigest()[:12] != self.info.id:
            raise _broken(self.path, "its documents are not those that were written")


def cut(documents: Iterable[str]) -> Iterator[list[str]]:
    """Cut documents into blocks: each is closed once it holds ``BLOCK_BYTES`` of UTF-8.

    A document that long is a block alone, so no other block reaches twice as much.
    """
    held: list[str] = []
    size = 0
    for text in documents:
        length = len(text.encode())
        if held and length >= BLOCK_BYTES:
            yield held
            held, size = [], 0
        held.append(text)
        size += length
        if size >= BLOCK_BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held


class _Filled:
    """Gives the documents that are not blank, and counts the others."""

    def __init__(self, documents: Iterable[str], *, source: str) -> None:
        self._documents = documents
        self._source = source
        self.empty = 0

    def __iter__(self) -> Iterator[str]:
        some = False
        for text in self._documents:
            if text and not text.isspace():
                some = True
                yield text
            else:
                self.empty += 1
        if not some:
            there = (
                f"its {self.empty:,} documents are blank" if self.empty else "it has no document"
            )
            raise BadInput(
                f"There is nothing to read in {self._source}: {there}. Name another text."
            )


def _until(
    blocks: Iterable[list[str]], tokens: int, count: Count, *, source: str
) -> Iterator[list[str]]:
    """Yield blocks up to the document in which a number of tokens is reached.

    That document stays complete unless it exceeds the number by more than ``OVERSHOOT``:
    then it is cut at the number.
    """
    there = 0
    for whole in blocks:
        block = [_beginning(text, tokens - there, count) for text in whole]
        reached = there + np.cumsum(count(block))
        last = int(np.searchsorted(reached, tokens))
        if last < len(block):
            document = block[last]
            if reached[last] > tokens * (1 + OVERSHOOT):
                before = int(reached[last - 1]) if last else there
                document = _first_tokens(document, tokens - before, count)
            yield [*block[:last], document]
            return
        yield block
        there = int(reached[-1])
    raise BadInput(
        f"{tokens:,} tokens were asked for, and {source} has {there:,}: ask for {there:,} at most, for all "
        "of it, or name a longer text."
    )


def _beginning(text: str, tokens: int, count: Count) -> str:
    """Return a long text, or a beginning of it that clearly exceeds a number of tokens.

    A tokenizer takes some hundred bytes of memory a token, so a text of 100 MB is not
    given to it where a beginning will do.
    """
    size = max(BLOCK_BYTES, 8 * tokens)
    while size < len(text):
        if count([text[:size]])[0] > 2 * tokens + 100:
            return text[:size]
        size *= 4
    return text


def _first_tokens(text: str, tokens: int, count: Count) -> str:
    """Return the longest beginning of a text, cut between characters, of at most some tokens.

    Tokens of a beginning grow with its length, up to some at its end, so it is found by
    halving; it has one token at least.
    """
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count([text[:middle]])[0] <= tokens else (low, middle - 1)
    return text[:low]


def _feed(digest: "hashlib._Hash", text: bytes) -> None:
    digest.update(len(text).to_bytes(8, "little"))
    digest.update(text)


class _Writer:
    """Writes blocks into a file and keeps count."""

    def __init__(self, file: BinaryIO) -> None:
        self._parquet = pq.ParquetWriter(
            file,
            _SCHEMA,
            compression="zstd",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
        self._digest = hashlib.sha256()
        self._documents = self._characters = self._bytes = self._blocks = 0

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._parquet.close()

    def add(self, block: Sequence[str]) -> None:
        """Write a block as a row group."""
        for text in block:
            data = text.encode()
            _feed(self._digest, data)
            self._bytes += len(data)
            self._characters += len(text)
        first = self._documents
        columns = [
            pa.array(np.arange(first, first + len(block))),
            pa.array(np.full(len(block), self._blocks, dtype=np.int32)),
            pa.array(block, type=pa.string()),
        ]
        self._parquet.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
        self._documents += len(block)
        self._blocks += 1

    def finish(self, name: str, source: str, revision: str | None, *, empty: int) -> None:
        """Write down what the corpus is."""
        info = CorpusInfo(
            id=self._digest.hexdigest()[:12],
            name=name,
            source=source,
            revision=revision,
            documents=self._documents,
            characters=self._characters,
            bytes=self._bytes,
            blocks=self._blocks,
            empty=empty,
        )
        said = json.dumps({"format": FORMAT, **asdict(info)})
        self._parquet.add_key_value_metadata({_INFO.decode(): said})


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Translate what goes wrong while the file is written, but for a full disk."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(
            f"The corpus cannot be written to {path} ({reason}): choose a place where you may write."
        ) from error


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Translate what goes wrong while the file is read."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise _broken(path, str(getattr(error, "strerror", None) or error)) from error


def _broken(path: Path, reason: str) -> BrokenPart:
    reason = (reason.splitlines() or ["damaged"])[0]
    return BrokenPart(
        f"The corpus {path} is not what was written ({reason}): restore it from a copy, or ingest the text "
        "anew into another atlas."
    )
