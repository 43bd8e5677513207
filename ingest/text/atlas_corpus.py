"""The text of an atlas: what is asked for, read once, and what every later run must be about."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.atomic_files import discard
from atlas.errors import BadInput, BrokenPart, Mismatch
from atlas.folder import Folder
from atlas.progress import Progress
from ingest.text.corpus import Corpus
from ingest.text.readers import SplitOn
from ingest.text.tokenization import token_counts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Text", "beginning", "own_corpus"]


@dataclass(frozen=True)
class Text:
    """A text to ingest.

    Parameters
    ----------
    source
        A file, a folder, the name of a data set, or a list of documents.
    name
        What to call it; made from the source if None.
    field
        The field or column that holds the text, in JSONL, Parquet and data sets.
    split, revision
        Of a data set.
    split_on
        What ends a document in a plain text file; see ``ingest.text.readers.read``.
    """

    source: str | Path | Sequence[str]
    name: str | None = None
    field: str = "text"
    split: str = "train"
    revision: str | None = None
    split_on: SplitOn = "paragraph"


@contextmanager
def beginning(path: Path) -> Iterator[Folder]:
    """Open an atlas to write in, or begin one, which is gone again if it gets no text.

    Raises
    ------
    BadInput
        If something else is there.
    """
    begun = not path.exists()
    folder = Folder.create(path)
    with folder.writing():
        try:
            yield folder
        except BaseException:
            if begun and folder.corpus is None:  # there is nothing in it yet
                discard(folder.path)
            raise


def own_corpus(
    folder: Folder,
    text: "Text | str | Path | Sequence[str] | None",
    *,
    tokens: int | None,
    tokenizer: "PreTrainedTokenizerBase | None",
    model: str,
    progress: Progress,
) -> Corpus:
    """Return the corpus of an atlas, read from a text if it has none yet.

    Parameters
    ----------
    folder
        The atlas.
    text
        What was asked for; None takes the one that the atlas has.
    tokens
        Stop the text after so many.
    tokenizer
        Counts these; None where no number is asked for.
    model
        Whose tokenizer that is, to be noted.
    progress
        Told how far the work is.

    Raises
    ------
    BadInput
        If the atlas has no text and none is given, or it cannot be used.
    Mismatch
        If the atlas is about another text.
    BrokenPart
        If the file of the corpus is another one than the atlas says.
    """
    if text is None:
        return _there(folder, tokens)
    given = text if isinstance(text, Text) else Text(text)
    into = folder.path / ".corpus.parquet.given"
    corpus = Corpus.gather(
        given.source, into, name=given.name, revision=given.revision, split=given.split,
        field=given.field, split_on=given.split_on, tokens=tokens,
        count=None if tokenizer is None else partial(token_counts, tokenizer=tokenizer),
        progress=progress,
    )  # fmt: skip
    said = {**asdict(corpus.info), "tokens_asked": tokens, "counted_by": model, "field": given.field,
            "split": given.split, "split_on": given.split_on}  # fmt: skip
    try:
        folder.check_corpus(said)
        if folder.corpus is None or not folder.corpus_file.exists():
            into.replace(folder.corpus_file)
            folder.set_corpus(said)
    finally:
        into.unlink(missing_ok=True)
    return Corpus.open(folder.corpus_file)


def _there(folder: Folder, tokens: int | None) -> Corpus:
    if folder.corpus is None:
        raise BadInput("The atlas has no text yet; name one with --text.")
    if tokens not in (None, folder.corpus.get("tokens_asked")):
        raise Mismatch(
            "--tokens cuts a new text, and this atlas has its corpus already; leave --tokens out, or "
            "begin another atlas with --atlas."
        )
    corpus = Corpus.open(folder.corpus_file)
    if corpus.info.id != folder.corpus["id"]:
        raise BrokenPart(
            f"{folder.corpus_file} is not the text that this atlas is about; put the right file back."
        )
    return corpus
