"""The pass over the text: run shards through the model and its SAEs, and collect codes and states.

Compute batches depend on their block alone, so codes do not depend on how the work
is divided.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from atlas.errors import BadActivations
from atlas.progress import Stage
from ingest.codes.store import Block, Tokens
from ingest.error_translation import FEWER, memory_errors
from ingest.reduce import on_activations
from ingest.reduce.protocol import Sizes, State
from ingest.text.tokenization import Batch, ContextSettings, TokenizedBlock, tokenize

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel
    from ingest.sae.autoencoder import Autoencoder
    from ingest.text.corpus import Document

__all__ = [
    "Compute",
    "Group",
    "Piece",
    "Results",
    "Shard",
    "ShardResult",
    "compute_shard",
    "empty_states",
    "encode_batch",
    "join_pieces",
    "shard_blocks",
    "tokenized",
]


@dataclass(frozen=True)
class Group:
    """SAEs with the same model, context and BOS, which one run of the model serves.

    Parameters
    ----------
    model
        The model.
    saes
        The SAEs, which all fit the model.
    contexts
        How text is split into contexts.
    batch_tokens
        Padded tokens of one forward pass.
    """

    model: "LanguageModel"
    saes: "tuple[Autoencoder, ...]"
    contexts: ContextSettings
    batch_tokens: int

    @property
    def hooks(self) -> list[str]:
        """The sites to read, without duplicates."""
        return sorted({hook for sae in self.saes for hook in sae.info.ingested_hooks})

    def only(self, names: Sequence[str]) -> "Group":
        """Return the group restricted to some of its SAEs."""
        return replace(self, saes=tuple(sae for sae in self.saes if sae.info.name in names))


@dataclass(frozen=True)
class Shard:
    """A shard to compute.

    Parameters
    ----------
    number
        Its number, from 0.
    blocks
        The numbers of its blocks.
    saes
        The names of the SAEs for which it is not finished.
    """

    number: int
    blocks: range
    saes: tuple[str, ...]


@dataclass
class ShardResult:
    """The result of a shard for one SAE: its blocks, and the states of reductions over activations."""

    blocks: list[Block] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)


Results: TypeAlias = dict[str, ShardResult]
"""The results of a shard, by the name of the SAE."""

Compute: TypeAlias = Callable[[Sequence[Shard], Stage], Iterator[tuple[Shard, Results]]]
"""Computes shards and yields each when it is finished, in any order; advances the stage by blocks."""


def shard_blocks(shard: int, *, size: int, blocks: int) -> range:
    """Return the numbers of the blocks of a shard."""
    return range(shard * size, min((shard + 1) * size, blocks))


def tokenized(
    group: Group, blocks: "Iterable[tuple[int, Sequence[Document]]]"
) -> Iterator[tuple[int, TokenizedBlock]]:
    """Yield the numbers of blocks, and their documents as contexts of the group."""
    cut = partial(tokenize, settings=group.contexts, batch_tokens=group.batch_tokens)
    for number, texts in blocks:
        yield number, cut(texts, group.model.tokenizer)


def compute_shard(
    group: Group,
    blocks: Iterable[tuple[int, TokenizedBlock]],
    *,
    shard: int,
    stage: Stage,
) -> Results:
    """Run the blocks of a shard through the model and every SAE of the group.

    Parameters
    ----------
    group
        The model and its SAEs.
    blocks
        The blocks of the shard in order: their numbers and contexts, from ``tokenized``.
    shard
        The number of the shard, for messages.
    stage
        Advances by one for each finished block, in fractions.

    Returns
    -------
    dict
        The result of each SAE, by name.

    Raises
    ------
    BadActivations
        If the model or an SAE returns NaN or Inf.
    """
    results = {sae.info.name: ShardResult(states=empty_states(sae)) for sae in group.saes}
    for number, text in blocks:
        pieces: dict[str, list[Piece]] = {name: [] for name in results}
        for batch in text.batches:
            ids, mask, keep = map(
                torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.keep)
            )
            read = group.model.run(ids, mask, hooks=group.hooks)
            for sae in group.saes:
                name = sae.info.name
                x = sae.reads(read, keep, ids)
                target = sae.target(read, keep, x)
                states = results[name].states
                pieces[name].append(
                    encode_batch(sae, (x, target), batch, states=states, shard=shard)
                )
            stage.advance(1 / len(text.batches))
        for sae in group.saes:
            block = join_pieces(number, text.tokens, pieces[sae.info.name], d_sae=sae.info.d_sae)
            results[sae.info.name].blocks.append(block)
    return results


@dataclass(frozen=True)
class Piece:
    """The codes of one compute batch in CSR form, and the row in the block of each of its rows."""

    rows: NDArray[np.int64]
    indptr: NDArray[np.int64]
    indices: NDArray[np.uint32]
    values: NDArray[np.float32]


def empty_states(sae: "Autoencoder") -> dict[str, State]:
    """Return the initial state of each reduction over activations."""
    sizes = Sizes(
        d_in=sae.info.d_out,
        d_sae=sae.info.d_sae,
        tokens=0,
        l0=0.0,
        vocabulary=0,
        codes_stored=False,
    )
    return {r.name: r.start(sizes) for r in on_activations()}


def encode_batch(
    sae: "Autoencoder",
    vectors: tuple[torch.Tensor, torch.Tensor],
    batch: Batch,
    *,
    states: dict[str, State],
    shard: int,
) -> Piece:
    """Encode a batch with an SAE, and update ``states`` with its reconstruction.

    ``vectors`` are what it reads and what its reconstruction approximates; see
    ``Autoencoder.reads`` and ``Autoencoder.target``.

    Raises
    ------
    BadActivations
        If the model or the SAE returns NaN or Inf.
    """
    x, target = vectors
    try:
        indptr, indices, values, reconstruction = sae.codes_and_reconstruction(x)
        with memory_errors(
            f"the fidelity of {len(x)} tokens of the SAE {sae.info.name}", todo=FEWER
        ):
            for reduction in on_activations():
                reduction.update(states[reduction.name], target, reconstruction)
    except BadActivations as error:
        raise BadActivations(
            f"{error} (SAE {sae.info.name}, shard {shard}; nothing of this shard was stored.)"
        ) from error
    return Piece(batch.rows, indptr, indices, values)


def join_pieces(number: int, tokens: Tokens, pieces: Sequence[Piece], *, d_sae: int) -> Block:
    """Concatenate the rows of the compute batches in corpus order."""
    if not pieces:
        empty = np.zeros(len(tokens) + 1, dtype=np.int64)
        return Block(number, tokens, empty, np.zeros(0, np.uint32), np.zeros(0, np.float32), d_sae)
    lengths = np.concatenate([np.diff(p.indptr) for p in pieces])
    order = np.argsort(np.concatenate([p.rows for p in pieces]), kind="stable")
    begins = np.cumsum(lengths) - lengths
    lengths = lengths[order]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    # Entry e of row r comes from begins[order[r]] + (e - indptr[r]).
    source = np.repeat(begins[order] - indptr[:-1], lengths) + np.arange(indptr[-1])
    indices = np.concatenate([p.indices for p in pieces])[source]
    values = np.concatenate([p.values for p in pieces])[source]
    return Block(number, tokens, indptr, indices, values, d_sae)
