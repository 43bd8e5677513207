"""Activations at the source and the target of a study: streamed, and kept in scratch files to train on.

What is left of the target is never stored: it is made of these, batch by batch.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atlas.atomic_files import placed_folder, write_json
from atlas.errors import BadActivations, BadInput, OutOfRoom
from atlas.progress import Progress
from ingest.forward.activations import activations
from ingest.sae.activation_transforms import Subtraction
from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings, tokenize

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel

__all__ = ["Activations", "Reader", "Rows", "keep"]

#: Tokens that are read at once where all are looked through.
AT_ONCE = 8192


class Rows(NamedTuple):
    """Some tokens: float32 (tokens, width) at the source and the target, and int64 (tokens,)."""

    source: Tensor
    target: Tensor
    ids: Tensor
    documents: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Activations:
    """Activations of tokens, in memory or mapped from disk.

    Parameters
    ----------
    source, target
        float32, (tokens, width of the place).
    ids
        int64, (tokens,). Token ids.
    documents
        int64, (tokens,). The document of each token.
    """

    source: NDArray[np.float32]
    target: NDArray[np.float32]
    ids: NDArray[np.int64]
    documents: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def chunks(self) -> Iterator[Rows]:
        """Yield all tokens in order, some at a time."""
        for i in range(0, len(self), AT_ONCE):
            yield self.rows(slice(i, i + AT_ONCE))

    def rows(self, which: "slice | NDArray[np.int64]") -> Rows:
        """Return some tokens."""
        source, target, ids = (
            torch.from_numpy(np.array(values[which]))
            for values in (self.source, self.target, self.ids)
        )
        return Rows(source, target, ids, self.documents[which])


def left(less: Subtraction | None, rows: Rows, *, source: str) -> Tensor:
    """Return what an SAE reads of some tokens: the target less what is taken from it."""
    return rows.target if less is None else less.apply(rows.target, {source: rows.source}, rows.ids)


@dataclass(frozen=True, eq=False)
class Reader:
    """A model, the two places that are read in it, and how text is laid out for it.

    Parameters
    ----------
    model
        The model, loaded as deep as the deeper place.
    source, target
        The hooks.
    contexts, batch_tokens
        How text is laid out.
    """

    model: "LanguageModel"
    source: str
    target: str
    contexts: ContextSettings
    batch_tokens: int

    def stream(self, corpus: Corpus, *, title: str, progress: Progress) -> Iterator[Rows]:
        """Run the model over some documents and yield their tokens, batch by batch.

        Raises
        ------
        BadActivations
            If NaN or Inf comes out of the model.
        """
        with progress.stage(title, total=len(corpus), unit="blocks") as stage:
            for number in range(len(corpus)):
                text = tokenize(
                    corpus.block(number), self.model.tokenizer,
                    settings=self.contexts, batch_tokens=self.batch_tokens,
                )  # fmt: skip
                for batch, at in activations(
                    self.model, text, hooks=list({self.source, self.target})
                ):
                    mask = torch.from_numpy(batch.keep).to(self.model.device)
                    source, target = (
                        self._sound(at[hook][mask].float().cpu(), hook)
                        for hook in (self.source, self.target)
                    )
                    ids = torch.from_numpy(batch.input_ids[batch.keep])
                    yield Rows(source, target, ids, text.tokens.document[batch.rows])
                stage.advance()

    def origin(self) -> dict[str, Any]:
        """Return all that activations depend on besides the documents."""
        return {
            "model": self.model.weights,
            "parameters": list(self.model.parameters([self.source, self.target])),
            "model source": [self.model.source, self.model.revision],
            "dtype": self.model.dtype,
            "tokenizer": self.model.tokenizer_key,
            "hooks": [self.source, self.target],
            "contexts": asdict(self.contexts),
            "batch_tokens": self.batch_tokens,
        }

    def _sound(self, x: Tensor, hook: str) -> Tensor:
        if not torch.isfinite(x).all():
            raise BadActivations(
                f"NaN or Inf came out of {self.model.name} at {hook}: run the model in float32 (dtype "
                "'float32')."
            )
        return x


_FILES = {"source": "<f4", "target": "<f4", "ids": "<i8", "documents": "<i8"}


def keep(
    reader: Reader, corpus: Corpus, into: Path, *, tokens: int, progress: Progress
) -> Activations:
    """Keep the activations of some documents in a scratch folder, or open those kept there before.

    Those of other documents, or read otherwise (model, hooks, contexts), are made anew.

    Parameters
    ----------
    reader
        The model and its places.
    corpus
        The documents.
    into
        The folder: there once it is whole.
    tokens
        Tokens of the documents.
    progress
        Told how large the files are, and how far the work is.

    Raises
    ------
    OutOfRoom
        If the disk has no room for them.
    BadInput
        If the documents have no token.
    """
    widths = [reader.model.site(h).width for h in (reader.source, reader.target)]
    wanted = {"corpus": corpus.info.id, "widths": widths, **reader.origin()}
    if not (into / "kept.json").exists() or _said(into) != wanted:
        _make_room(into, size=tokens * (4 * sum(widths) + 16), progress=progress)
        with placed_folder(into) as folder:
            _write(reader, corpus, folder, progress)
            write_json(folder / "kept.json", wanted)
    found = {name: np.memmap(into / name, dtype=kind, mode="r") for name, kind in _FILES.items()}
    count = len(found["ids"])
    return Activations(
        found["source"].reshape(count, -1), found["target"].reshape(count, -1),
        found["ids"], found["documents"],
    )  # fmt: skip


def _said(folder: Path) -> object:
    return json.loads((folder / "kept.json").read_text("utf-8"))


def _make_room(into: Path, *, size: int, progress: Progress) -> None:
    import shutil

    progress.report(
        f"The activations to train on take {size / 2**30:.1f} GiB of disk until the SAEs are trained."
    )
    into.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(into.parent).free
    if size > free:
        raise OutOfRoom(
            f"The activations take {size / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free at "
            f"{into.parent}: give fewer --tokens, or an --atlas on another disk."
        )


def _write(reader: Reader, corpus: Corpus, folder: Path, progress: Progress) -> None:
    title = f"{reader.model.name}: activations to train on"
    count = 0
    with (
        (folder / "source").open("wb") as source,
        (folder / "target").open("wb") as target,
        (folder / "ids").open("wb") as ids,
        (folder / "documents").open("wb") as documents,
    ):
        for rows in reader.stream(corpus, title=title, progress=progress):
            source.write(rows.source.numpy().astype(_FILES["source"]).tobytes())
            target.write(rows.target.numpy().astype(_FILES["target"]).tobytes())
            ids.write(rows.ids.numpy().astype(_FILES["ids"]).tobytes())
            documents.write(rows.documents.astype(_FILES["documents"]).tobytes())
            count += len(rows.ids)
    if not count:
        raise BadInput(
            f"The documents to train on ({corpus.info.name}) have no token: give a longer text."
        )
