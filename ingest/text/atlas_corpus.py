"""The text of an atlas: read once, then fixed for every later run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.disk.atomic_files import discard
from atlas.disk.folder import Folder
from atlas.errors import BadInput, BrokenPart, Mismatch
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
        Its name; derived from the source if None.
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
    """Open an atlas for writing, or create one; remove a new one that receives no text.

    Raises
    ------
    BadInput
        If the path holds something other than an atlas.
    """
    created = not path.exists()
    folder = Folder.create(path)
    with folder.writing():
        folder = Folder.open(path)  # another process may have written since it was created
        created = created and folder.corpus is None
        try:
            yield folder
        except BaseException:
            if created and folder.corpus is None:
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
    """Return the corpus of an atlas; read it from the text if the atlas has none yet.

    Parameters
    ----------
    folder
        The atlas.
    text
        The text to read; None uses the corpus of the atlas.
    tokens
        Stop the text after this many tokens.
    tokenizer
        Counts the tokens; None if ``tokens`` is None.
    model
        The model of the tokenizer; it is recorded.
    progress
        Shows how far the work is.

    Raises
    ------
    BadInput
        If the atlas has no text and none is passed, or the text cannot be used.
    Mismatch
        If the atlas has another text.
    BrokenPart
        If the file of the corpus is not the one that the atlas records.
    """
    if text is None:
        return _stored_corpus(folder, tokens)
    request = text if isinstance(text, Text) else Text(text)
    into = folder.path / ".corpus.parquet.given"
    corpus = Corpus.gather(
        request.source,
        into,
        name=request.name,
        revision=request.revision,
        split=request.split,
        field=request.field,
        split_on=request.split_on,
        tokens=tokens,
        count=None if tokenizer is None else partial(token_counts, tokenizer=tokenizer),
        progress=progress,
    )
    record = {
        **asdict(corpus.info),
        "tokens_asked": tokens,
        "counted_by": model,
        "field": request.field,
        "split": request.split,
        "split_on": request.split_on,
    }
    try:
        folder.check_corpus(record)
        if folder.corpus is None or not folder.corpus_file.exists():
            into.replace(folder.corpus_file)
            folder.set_corpus(record)
    finally:
        into.unlink(missing_ok=True)
    return Corpus.open(folder.corpus_file)


def _stored_corpus(folder: Folder, tokens: int | None) -> Corpus:
    if folder.corpus is None:
        raise BadInput("The atlas has no text yet; name one with `text`.")
    if tokens not in (None, folder.corpus.get("tokens_asked")):
        raise Mismatch(
            "`tokens` applies to a new text, but this atlas already has its corpus. Omit `tokens`, or "
            "create another atlas with `atlas`."
        )
    corpus = Corpus.open(folder.corpus_file)
    if corpus.info.id != folder.corpus["id"]:
        raise BrokenPart(
            f"{folder.corpus_file} is not the corpus that this atlas was built from. Restore the original "
            "file."
        )
    return corpus
