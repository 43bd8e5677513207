"""The corpus: the documents of an atlas, in blocks, stored in one Parquet file.

A block is a run of complete documents of about 64 KiB of text. Blocks do not depend
on the tokenizer. Each block is one row group: it can be read alone, so memory does
not grow with the corpus.
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

from atlas.disk.atomic_files import atomic_file
from atlas.errors import BadInput, BrokenPart, NewerFormat
from atlas.progress import SILENT, Progress
from ingest.text import readers
from ingest.text.readers import Source, SplitOn, Texts

__all__ = ["BLOCK_BYTES", "Corpus", "CorpusInfo", "Document", "cut"]

FORMAT = 1
BLOCK_BYTES = 64 * 1024
"""A block is closed once it holds this many bytes of UTF-8."""
OVERSHOOT = 0.1
"""Share of the token limit by which the last document may exceed it without being cut."""

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
    """Metadata of a corpus.

    Parameters
    ----------
    id
        First 12 hex digits of the SHA-256 over the documents in order. Each document
        adds its number of bytes (8 bytes, little-endian) and its UTF-8.
    name
        Its name.
    source
        File, folder or data set it was read from, or ``"memory"``.
    revision
        Commit of the data set, if any.
    documents, characters, bytes
        Number of documents, and their total length in characters and in UTF-8 bytes.
    blocks
        Number of blocks.
    empty
        Number of blank documents of the source, which are excluded.
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
            A file, a folder, the name of a data set, a list of strings, or the ``Texts``
            of an opened source; see ``ingest.text.readers``.
        into
            The file to write; it appears only when complete.
        name
            Name of the corpus; derived from the source if None.
        revision, split, field, split_on
            See ``ingest.text.readers.read``.
        tokens
            Stop after the document that reaches this many tokens. That document is cut if it
            exceeds the number by more than a tenth.
        count
            Returns the number of tokens of each document; required with ``tokens``.
        progress
            Shows how far the work is, and reports the number of blank documents.

        Raises
        ------
        BadInput
            If the source cannot be used, is empty, or has fewer tokens than requested.
        Missing
            If a data set is neither on this machine nor can be downloaded.
        OutOfSpace
            If the disk is full.
        """
        if tokens is not None and tokens < 1:
            raise BadInput(f"{tokens} tokens were requested; request at least one.")
        texts = (
            source
            if isinstance(source, Texts)
            else readers.read(
                source, split=split, field=field, revision=revision, split_on=split_on
            )
        )
        documents = _NotBlank(texts.documents, source=texts.source)
        blocks: Iterable[list[str]] = cut(documents)
        if tokens is not None:
            if count is None:
                raise TypeError("gather() needs `count` to stop at a number of tokens.")
            blocks = _until(blocks, tokens, count, source=texts.source)
        with (
            _write_errors(into),
            atomic_file(into) as unfinished,
            unfinished.open("wb") as file,
            _Writer(file) as writer,
            progress.stage("Reading the text", unit="documents") as stage,
        ):
            for block in blocks:
                writer.add(block)
                stage.advance(len(block))
            writer.finish(name or texts.name, texts.source, texts.revision, empty=documents.empty)
        if documents.empty:
            progress.report(f"Excluded {documents.empty:,} blank documents of {texts.source}.")
        return cls.open(into)

    @classmethod
    def open(cls, path: Path) -> "Corpus":
        """Open a corpus for reading.

        Raises
        ------
        BrokenPart
            If the file does not exist, or is not a complete corpus.
        NewerFormat
            If a newer version of this program wrote it.
        """
        with _read_errors(path):
            file = pq.ParquetFile(path, page_checksum_verification=True)
            metadata = json.loads((file.metadata.metadata or {})[_INFO])
            if metadata.pop("format") > FORMAT:
                raise NewerFormat(
                    f"The corpus {path} was written by a newer version of this program: upgrade it "
                    "(`pip install --upgrade feature-atlas`)."
                )
            info = CorpusInfo(**metadata)
            if not file.schema_arrow.equals(_SCHEMA) or (info.documents, info.blocks) != (
                file.metadata.num_rows,
                file.num_row_groups,
            ):
                raise ValueError("its rows do not match its metadata")
            return cls(path, info, file)

    def __len__(self) -> int:
        return self.info.blocks

    def block(self, number: int) -> tuple[Document, ...]:
        """Read the documents of a block.

        Raises
        ------
        IndexError
            If the corpus has no such block.
        BrokenPart
            If the file has been damaged.
        """
        if not 0 <= number < len(self):
            raise IndexError(
                f"{self.path} has {len(self)} blocks, and block {number} was requested."
            )
        with _read_errors(self.path):
            # Threads would cost more than they save on 64 KiB.
            table = self._file.read_row_group(number, use_threads=False)
            columns = [column.to_pylist() for column in table.columns]
        return tuple(Document(n, text) for n, _, text in zip(*columns, strict=True))

    def verify(self) -> None:
        """Read every document and compare their checksum with the stored one.

        Raises
        ------
        BrokenPart
            If the checksums differ.
        """
        digest = hashlib.sha256()
        for number in range(len(self)):
            for document in self.block(number):
                _feed(digest, document.text.encode())
        if digest.hexdigest()[:12] != self.info.id:
            raise _broken(self.path, "the checksum of its documents differs")


def cut(documents: Iterable[str]) -> Iterator[list[str]]:
    """Group documents into blocks; close a block once it holds ``BLOCK_BYTES`` of UTF-8.

    A document of that length is a block alone, so every other block is shorter than
    twice ``BLOCK_BYTES``.
    """
    block: list[str] = []
    size = 0
    for text in documents:
        length = len(text.encode())
        if block and length >= BLOCK_BYTES:
            yield block
            block, size = [], 0
        block.append(text)
        size += length
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


class _NotBlank:
    """Iterate over the documents that are not blank, and count the blank ones."""

    def __init__(self, documents: Iterable[str], *, source: str) -> None:
        self._documents = documents
        self._source = source
        self.empty = 0

    def __iter__(self) -> Iterator[str]:
        any_text = False
        for text in self._documents:
            if text and not text.isspace():
                any_text = True
                yield text
            else:
                self.empty += 1
        if not any_text:
            reason = (
                f"its {self.empty:,} documents are blank" if self.empty else "it has no document"
            )
            raise BadInput(
                f"There is nothing to read in {self._source}: {reason}. Name another text."
            )


def _until(
    blocks: Iterable[list[str]], tokens: int, count: Count, *, source: str
) -> Iterator[list[str]]:
    """Yield blocks up to the document that reaches a number of tokens.

    That document stays complete unless it exceeds the number by more than ``OVERSHOOT``.
    Then it is cut at the number.
    """
    total = 0
    for full_block in blocks:
        block = [_beginning(text, tokens - total, count) for text in full_block]
        reached = total + np.cumsum(count(block))
        last = int(np.searchsorted(reached, tokens))
        if last < len(block):
            document = block[last]
            if reached[last] > tokens * (1 + OVERSHOOT):
                before = int(reached[last - 1]) if last else total
                document = _first_tokens(document, tokens - before, count)
            yield [*block[:last], document]
            return
        yield block
        total = int(reached[-1])
    raise BadInput(
        f"{tokens:,} tokens were requested, and {source} has {total:,}. Request {total:,} at most, or name "
        "a longer text."
    )


def _beginning(text: str, tokens: int, count: Count) -> str:
    """Return the text, or a prefix of a long text that clearly exceeds a number of tokens.

    A tokenizer takes some hundred bytes of memory per token, so a text of 100 MB is
    tokenized in full only if no prefix is long enough.
    """
    size = max(BLOCK_BYTES, 8 * tokens)
    while size < len(text):
        if count([text[:size]])[0] > 2 * tokens + 100:
            return text[:size]
        size *= 4
    return text


def _first_tokens(text: str, tokens: int, count: Count) -> str:
    """Return the longest prefix of a text with at most ``tokens`` tokens, cut between characters.

    The number of tokens grows with the length of the prefix, except for a few tokens at its
    end, so bisection finds the prefix. It has at least one token.
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
    """Writes blocks into a file, and counts documents, characters and bytes."""

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
        """Write the metadata of the corpus."""
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
        metadata = json.dumps({"format": FORMAT, **asdict(info)})
        self._parquet.add_key_value_metadata({_INFO.decode(): metadata})


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Translate errors of writing the file, except for a full disk."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(
            f"The corpus cannot be written to {path} ({reason}). Choose a folder that you may write to."
        ) from error


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Translate errors of reading the file."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise _broken(path, str(getattr(error, "strerror", None) or error)) from error


def _broken(path: Path, reason: str) -> BrokenPart:
    reason = (reason.splitlines() or ["damaged"])[0]
    return BrokenPart(
        f"The corpus {path} is damaged ({reason}). Restore it from a copy, or ingest the text into another "
        "atlas."
    )
