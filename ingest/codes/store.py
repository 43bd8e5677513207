"""Codes: the sparse activations of an SAE and their tokens, block by block.

A block holds the non-special tokens of a run of complete documents, and the active
features of each token. The codes of a shard are one Arrow IPC file with one record
batch per block, which is memory-mapped and read without a copy.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.disk.atomic_files import atomic_file
from atlas.disk.folder import Folder, Sound
from atlas.errors import BrokenPart
from atlas.studies.study import check_inputs, check_saes

__all__ = ["Block", "Tokens", "count_rows", "read_shard", "stored_shards", "write_shard"]

FORMAT = b"1"

_SCHEMA = pa.schema(
    [
        pa.field("token_id", pa.int32(), nullable=False),
        pa.field("document", pa.int64(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("start", pa.int32(), nullable=False),
        pa.field("end", pa.int32(), nullable=False),
        pa.field(
            "features", pa.list_(pa.field("item", pa.uint32(), nullable=False)), nullable=False
        ),
        pa.field(
            "activations", pa.list_(pa.field("item", pa.float32(), nullable=False)), nullable=False
        ),
    ]
)


@dataclass(frozen=True)
class Tokens:
    """The tokens of a block in corpus order, without special tokens.

    All arrays have one entry per token.

    Parameters
    ----------
    token_id
        int32. Number in the vocabulary.
    document
        int64. Number of the document in the corpus; never decreases.
    index
        int32. Number of the token in its document, not counting special tokens.
    position
        int32. Position in the context of the model (BOS, if any, has position 0).
        It decreases exactly where a new context begins.
    start, end
        int32. Characters of the document that the token covers.
    """

    token_id: NDArray[np.int32]
    document: NDArray[np.int64]
    index: NDArray[np.int32]
    position: NDArray[np.int32]
    start: NDArray[np.int32]
    end: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.token_id)

    @property
    def fresh(self) -> NDArray[np.bool_]:
        """Whether each token begins a context; bool, one per token."""
        fresh = np.ones(len(self), dtype=np.bool_)
        fresh[1:] = self.document[1:] != self.document[:-1]
        fresh[1:] |= self.position[1:] <= self.position[:-1]
        return fresh


@dataclass(frozen=True)
class Block:
    """The codes of one block in compressed sparse row form, one row per token.

    Parameters
    ----------
    number
        Number of the block in the corpus.
    tokens
        The tokens, one per row.
    indptr
        int64, rows + 1. Row t holds entries ``indptr[t]:indptr[t + 1]``.
    indices
        uint32. Active features, ascending within a row.
    values
        float32. Their activations, all above 0.
    d_sae
        Number of features.
    """

    number: int
    tokens: Tokens
    indptr: NDArray[np.int64]
    indices: NDArray[np.uint32]
    values: NDArray[np.float32]
    d_sae: int

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The row of each entry, int64."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.indptr))

    @cached_property
    def location(self) -> NDArray[np.int64]:
        """The position of each token in the corpus, int64: document * 2**32 + index; ascending."""
        return (self.tokens.document << 32) | self.tokens.index.astype(np.int64)

    @cached_property
    def context(self) -> NDArray[np.int64]:
        """The context of each token, int64, counted from 0 within the block."""
        return np.cumsum(self.tokens.fresh, dtype=np.int64) - 1


def write_shard(path: Path, blocks: Iterable[Block], *, sae: str, d_sae: int, first: int) -> None:
    """Write the blocks of a shard; the file appears only when complete.

    Parameters
    ----------
    path
        The file to write.
    blocks
        Consecutive blocks, beginning with number ``first``.
    sae, d_sae
        The SAE's name and its number of features.
    first
        Number of the first block.
    """
    schema = _SCHEMA.with_metadata(
        {b"format": FORMAT, b"sae": sae.encode(), b"d_sae": b"%d" % d_sae, b"first": b"%d" % first}
    )
    with (
        atomic_file(path) as unfinished,
        pa.OSFile(str(unfinished), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for block in blocks:
            writer.write_batch(_batch(block, schema))


def read_shard(path: Path) -> Iterator[Block]:
    """Yield the blocks of a shard; their arrays are views of the file.

    Raises
    ------
    BrokenPart
        If the file is not a complete shard of codes.
    """
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            meta = reader.schema.metadata or {}
            if not reader.schema.equals(_SCHEMA) or meta.get(b"format") != FORMAT:
                raise BrokenPart(
                    f"{path} is not a file of codes in the format that this version reads. Run the same "
                    "`atlas ingest` again with `replace=True`."
                )
            first, d_sae = int(meta[b"first"]), int(meta[b"d_sae"])
            for i in range(reader.num_record_batches):
                yield _block(reader.get_batch(i), number=first + i, d_sae=d_sae)
    except (pa.ArrowInvalid, OSError) as error:
        raise BrokenPart(
            f"The codes in {path} cannot be read ({error}). Run the same `atlas ingest` again with `replace=True`."
        ) from error


def count_rows(path: Path) -> int:
    """Return the number of tokens of a shard."""
    return sum(len(block) for block in read_shard(path))


def _batch(block: Block, schema: pa.Schema) -> pa.RecordBatch:
    t = block.tokens
    offsets = pa.array(block.indptr.astype(np.int32))
    item = [schema.field(name).type for name in ("features", "activations")]
    return pa.RecordBatch.from_arrays(
        [
            *map(pa.array, (t.token_id, t.document, t.index, t.position, t.start, t.end)),
            pa.ListArray.from_arrays(offsets, pa.array(block.indices), type=item[0]),
            pa.ListArray.from_arrays(offsets, pa.array(block.values), type=item[1]),
        ],
        schema=schema,
    )


def _block(batch: pa.RecordBatch, *, number: int, d_sae: int) -> Block:
    plain = [batch.column(i).to_numpy() for i in range(6)]
    features, activations = batch.column("features"), batch.column("activations")
    return Block(
        number=number,
        tokens=Tokens(*plain),
        indptr=features.offsets.to_numpy().astype(np.int64),
        indices=features.values.to_numpy(),
        values=activations.values.to_numpy(),
        d_sae=d_sae,
    )


def stored_shards(folder: Folder, sound: Sound, sae: str, *, what: str) -> list[Path]:
    """Return the files of the codes of an SAE in order, after a check of their checksums.

    Parameters
    ----------
    folder, sound
        The atlas, and its sound parts.
    sae
        The name of the SAE.
    what
        The result that needs the codes, for the message.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of this name.
    Missing
        If its codes are not stored.
    BrokenPart
        If its codes have changed since they were written.
    """
    check_saes(sound, [sae])
    check_inputs([f"codes/{sae}"], sound, what=what)
    sound.parts[f"codes/{sae}"].check()
    return sorted(folder.codes(sae).glob("*.arrow"))
