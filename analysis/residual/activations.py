"""Activations at source and target of a study: streamed, or stored in scratch files for training.

The residual of the target is never stored; it is computed from these batch by batch.
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

from atlas.amounts import byte_size
from atlas.disk.atomic_files import atomic_folder, write_json
from atlas.errors import BadActivations, BadInput, OutOfSpace
from atlas.progress import Progress
from ingest.forward.site_vectors import activations
from ingest.sae.activation_transforms import Subtraction
from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings, tokenize

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel

__all__ = ["ActivationRows", "Activations", "Reader", "store_activations"]

#: Tokens in a chunk when all tokens are read.
CHUNK = 8192


class ActivationRows(NamedTuple):
    """Activations of tokens, float32 (tokens, width), with ids and documents, int64 (tokens,)."""

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
        float32, (tokens, width of the site).
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

    def chunks(self) -> Iterator[ActivationRows]:
        """Yield all tokens in order, in chunks."""
        for i in range(0, len(self), CHUNK):
            yield self.rows(slice(i, i + CHUNK))

    def rows(self, which: "slice | NDArray[np.int64]") -> ActivationRows:
        """Return selected tokens."""
        source, target, ids = (
            torch.from_numpy(np.array(values[which]))
            for values in (self.source, self.target, self.ids)
        )
        return ActivationRows(source, target, ids, self.documents[which])


def subtract_prediction(less: Subtraction | None, rows: ActivationRows, *, source: str) -> Tensor:
    """Return the input of an SAE: the target minus the subtraction ``less``, if any."""
    return rows.target if less is None else less.apply(rows.target, {source: rows.source}, rows.ids)


@dataclass(frozen=True, eq=False)
class Reader:
    """A model, the two sites that are read from it, and its text layout.

    Parameters
    ----------
    model
        The model, loaded up to the deeper site.
    source, target
        The hooks.
    contexts, batch_tokens
        Settings of contexts and batches.
    """

    model: "LanguageModel"
    source: str
    target: str
    contexts: ContextSettings
    batch_tokens: int

    def stream(self, corpus: Corpus, *, title: str, progress: Progress) -> Iterator[ActivationRows]:
        """Run the model on documents and yield their tokens batch by batch.

        Raises
        ------
        BadActivations
            If the model outputs NaN or Inf.
        """
        with progress.stage(title, total=len(corpus), unit="blocks") as stage:
            for number in range(len(corpus)):
                text = tokenize(
                    corpus.block(number),
                    self.model.tokenizer,
                    settings=self.contexts,
                    batch_tokens=self.batch_tokens,
                )
                for batch, at in activations(
                    self.model, text, hooks=list({self.source, self.target})
                ):
                    mask = torch.from_numpy(batch.keep).to(self.model.device)
                    source, target = (
                        self._finite(at[hook][mask].float().cpu(), hook)
                        for hook in (self.source, self.target)
                    )
                    ids = torch.from_numpy(batch.input_ids[batch.keep])
                    yield ActivationRows(source, target, ids, text.tokens.document[batch.rows])
                stage.advance()

    def origin(self) -> dict[str, Any]:
        """Return everything that activations depend on except the documents."""
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

    def _finite(self, x: Tensor, hook: str) -> Tensor:
        if not torch.isfinite(x).all():
            raise BadActivations(
                f"The activations of {self.model.name} at {hook} have NaN or Inf. Run the model in float32 (dtype "
                "'float32')."
            )
        return x


_FILES = {"source": "<f4", "target": "<f4", "ids": "<i8", "documents": "<i8"}


def store_activations(
    reader: Reader, corpus: Corpus, into: Path, *, tokens: int, progress: Progress
) -> Activations:
    """Store the activations of documents in a scratch folder, or open them if stored already.

    Activations of other documents, or of another model, hook or layout, are computed again.

    Parameters
    ----------
    reader
        The model and its sites.
    corpus
        The documents.
    into
        The folder; it appears only when it is complete.
    tokens
        Number of tokens of the documents.
    progress
        Receives the size of the files and the progress.

    Raises
    ------
    OutOfSpace
        If the disk has too little free space.
    BadInput
        If the documents have no token.
    """
    widths = [reader.model.site(h).width for h in (reader.source, reader.target)]
    wanted = {"corpus": corpus.info.id, "widths": widths, **reader.origin()}
    if not (into / "stored.json").exists() or _stored_origin(into) != wanted:
        _check_space(into, size=tokens * (4 * sum(widths) + 16), progress=progress)
        with atomic_folder(into) as folder:
            _write(reader, corpus, folder, progress)
            write_json(folder / "stored.json", wanted)
    found = {name: np.memmap(into / name, dtype=kind, mode="r") for name, kind in _FILES.items()}
    count = len(found["ids"])
    return Activations(
        found["source"].reshape(count, -1),
        found["target"].reshape(count, -1),
        found["ids"],
        found["documents"],
    )


def _stored_origin(folder: Path) -> object:
    return json.loads((folder / "stored.json").read_text("utf-8"))


def _check_space(into: Path, *, size: int, progress: Progress) -> None:
    import shutil

    progress.report(
        f"The training activations need {byte_size(size)} of disk until the SAEs are trained."
    )
    into.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(into.parent).free
    if size > free:
        raise OutOfSpace(
            f"The training activations need {byte_size(size)}, but {byte_size(free)} are free at "
            f"{into.parent}. Pass fewer `tokens`, or an `atlas` on another disk."
        )


def _write(reader: Reader, corpus: Corpus, folder: Path, progress: Progress) -> None:
    title = f"{reader.model.name}: training activations"
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
            f"The training documents ({corpus.info.name}) have no token. Pass a longer text."
        )
