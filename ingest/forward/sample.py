"""The costs of a run per token, shard and SAE, measured on a sample of the text.

The sample uses the code of the run itself: model, encoder, fidelity, files of codes,
reductions and tables. Each step runs once before it is timed, since the first call
loads kernels and compiles loops.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch

from atlas.disk.atomic_files import atomic_folder, discard, sha256
from atlas.progress import Clock
from ingest.codes.store import Block, Tokens, write_shard
from ingest.device_timing import wait_for
from ingest.forward.checkpoint import Checkpoint
from ingest.forward.shard_runner import ShardRunner
from ingest.forward.shards import Piece, empty_states, encode_batch, join_pieces
from ingest.reduce import on_codes
from ingest.reduce.protocol import ReducedSae, Sizes, State
from ingest.reduce.runner import plan_all, reduce_shards
from ingest.sae.autoencoder import Autoencoder
from ingest.text.tokenization import Batch, TokenizedBlock, token_texts, tokenize

__all__ = ["Costs", "SaeCosts", "measure"]

#: Tokens of the first batch: enough to keep a device busy, few compared with a real text.
SAMPLE = 1024

#: Largest share of the text that is used as a sample.
SHARE = 0.05

#: Seconds after which a measurement is not repeated on more tokens.
ENOUGH = 0.25

#: Tokens of the first measurement of the reductions, and the factor to the next.
FEW, GROWTH = 256, 4

#: Runs of about the last size of that measurement.
REPEATS = 3


@dataclass(frozen=True)
class SaeCosts:
    """The costs of one SAE, in seconds.

    Parameters
    ----------
    l0
        Active features per token of the sample.
    encode
        Per token: codes, reconstruction and fidelity.
    write, write_shard
        Per token and per shard: files of codes and states.
    reduce, reduce_shard
        Per token and per shard: all passes over the codes.
    first
        Share of the first pass in these passes.
    first_bytes
        Limit of the memory of the first pass.
    parts
        The tables of the reductions, computed and written.
    """

    l0: float
    encode: float
    write: float
    write_shard: float
    reduce: float
    reduce_shard: float
    parts: float
    first: float = 0.0
    first_bytes: int = 0


@dataclass(frozen=True)
class Costs:
    """The costs of a run.

    Parameters
    ----------
    tokens
        Tokens of the text, extrapolated from its first block.
    model
        Seconds per token in the tokenizer and the model.
    saes
        The costs of each SAE, by name.
    """

    tokens: int
    model: float
    saes: dict[str, SaeCosts]


@dataclass
class _Run:
    """The seconds and codes of the sample after the model and the encoders."""

    counted: int
    model: float
    encode: dict[str, float]
    blocks: dict[str, Block]


def measure(work: ShardRunner, *, folder: Path, clock: Clock = time.perf_counter) -> Costs | None:
    """Measure a run on a sample of its text.

    Parameters
    ----------
    work
        The run.
    folder
        The atlas; files are written to its disk to measure their cost.
    clock
        Returns the time in seconds.

    Returns
    -------
    Costs
        None if the text has no tokens.

    Raises
    ------
    OutOfSpace
        If the reductions do not fit into memory.
    """
    group, corpus = work.group, work.corpus
    first = corpus.block(0)
    cut = partial(
        tokenize,
        first,
        group.model.tokenizer,
        settings=group.contexts,
        batch_tokens=group.batch_tokens,
    )
    text = cut()  # a tokenizer's first call loads it
    if not text.batches:
        return None
    began = clock()
    cut()
    tokenizing = (clock() - began) / max(len(text.tokens), 1)
    share = corpus.info.bytes / max(1, sum(len(d.text.encode()) for d in first))
    tokens = int(len(text.tokens) * share)
    run = _run(work, text, most=SHARE * tokens, clock=clock)
    with _scratch(folder) as scratch:
        saes = {
            name: _Sae(work, sae, tokens, len(block.values) / run.counted, scratch, clock).costs(
                run
            )
            for (name, block), sae in zip(run.blocks.items(), group.saes, strict=True)
        }
    return Costs(tokens, tokenizing + run.model / run.counted, saes)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder on the disk of the atlas; its name begins with a dot, so it is no part."""
    path = folder / ".forecast"
    discard(path)
    try:
        yield path
    finally:
        discard(path)


def _run(work: ShardRunner, text: TokenizedBlock, *, most: float, clock: Clock) -> _Run:
    """Run a few contexts, and then batches of the block until ``ENOUGH`` seconds have passed."""
    group = work.group
    longest = text.batches[-1]
    few = max(1, int(min(SAMPLE, most)) // longest.input_ids.shape[1])
    # The first call loads kernels. On a GPU these depend on the shape, and a batch takes little time.
    first = 1 if group.model.device.type == "cpu" else few
    _encode(work, _part(longest, first), _begin(work), clock=clock)
    pieces, run = _begin(work)
    batches = [_part(longest, few)]
    _encode(work, batches[0], (pieces, run), clock=clock)
    rest = np.random.default_rng(0).permutation(len(text.batches) - 1)
    for batch in (text.batches[i] for i in rest):
        seconds = run.model + sum(run.encode.values())
        if seconds > ENOUGH or run.counted + len(batch.rows) > most:
            break
        batches.append(batch)
        _encode(work, batch, (pieces, run), clock=clock)
    rows = np.sort(np.concatenate([b.rows for b in batches]))
    tokens = _tokens(text.tokens, rows)
    for sae in group.saes:
        name = sae.info.name
        began = clock()
        run.blocks[name] = join_pieces(0, tokens, pieces[name], d_sae=sae.info.d_sae)
        run.encode[name] += clock() - began
    run.counted = max(run.counted, 1)
    return run


_Unfinished = tuple[dict[str, list[Piece]], _Run]


def _begin(work: ShardRunner) -> _Unfinished:
    names = [sae.info.name for sae in work.group.saes]
    return {name: [] for name in names}, _Run(0, 0.0, dict.fromkeys(names, 0.0), {})


def _encode(work: ShardRunner, batch: Batch, sample: _Unfinished, *, clock: Clock) -> None:
    """Run a batch through the model and every SAE, and add the seconds of each."""
    pieces, run = sample
    group = work.group
    ids, mask, keep = map(torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.keep))
    began = clock()
    read = group.model.run(ids, mask, hooks=group.hooks)
    wait_for(group.model.device)  # otherwise the first SAE waits for the model
    run.model += clock() - began
    run.counted += len(batch.rows)
    for sae in group.saes:
        name = sae.info.name
        began = clock()
        x = sae.reads(read, keep, ids)
        vectors = (x, sae.target(read, keep, x))
        pieces[name].append(encode_batch(sae, vectors, batch, states=empty_states(sae), shard=0))
        run.encode[name] += clock() - began


def _part(batch: Batch, contexts: int) -> Batch:
    """Return the first contexts of a batch."""
    keep = batch.keep[:contexts]
    return Batch(
        batch.input_ids[:contexts],
        batch.attention_mask[:contexts],
        keep,
        batch.rows[: int(keep.sum())],
    )


def _tokens(tokens: Tokens, rows: "np.ndarray[tuple[int], np.dtype[np.int64]] | slice") -> Tokens:
    return Tokens(*(getattr(tokens, field.name)[rows] for field in fields(tokens)))


@dataclass(frozen=True)
class _Sae:
    """Measures the steps after the encoder, for one SAE."""

    work: ShardRunner
    sae: Autoencoder
    tokens: int
    l0: float
    scratch: Path
    clock: Clock

    def costs(self, run: _Run) -> SaeCosts:
        """Return the costs of the SAE."""
        name = self.sae.info.name
        block = run.blocks[name]
        write, write_shard, hashed = self._writing(block)
        reduce, reduce_shard, halves = self._reducing(block)
        last = halves[-1]
        return SaeCosts(
            l0=self.l0,
            encode=run.encode[name] / run.counted,
            write=write,
            write_shard=write_shard + self._counting_in(last),
            reduce=reduce,
            reduce_shard=reduce_shard,
            parts=self._tables(halves) + hashed * self.tokens,
            first=last.first,
            first_bytes=last.first_bytes,
        )

    @property
    def _sizes(self) -> Sizes:
        info = self.sae.info
        return Sizes(
            d_in=info.d_in,
            d_sae=info.d_sae,
            tokens=self.tokens,
            l0=self.l0,
            vocabulary=self.work.group.model.vocabulary,
            codes_stored=self.work.settings.keep_codes,
        )

    def _writing(self, block: Block) -> tuple[float, float, float]:
        """Return the seconds to write a token, to write a shard, and to hash a token."""
        run, info = Checkpoint(self.scratch / self.sae.info.name), self.sae.info
        run.start({})
        states = empty_states(self.sae)
        number = max(len(block), 1)

        def write(blocks: Sequence[Block]) -> float:
            began = self.clock()
            write_shard(run.shard(0), blocks, sae=info.name, d_sae=info.d_sae, first=0)
            run.save_states(0, states)
            return self.clock() - began

        write([])
        empty = write([])
        some = write([block])
        began = self.clock()
        sha256(run.shard(0))
        return max(0.0, some - empty) / number, min(empty, some), (self.clock() - began) / number

    def _counting_in(self, finals: "_Finals") -> float:
        """Return the seconds to merge a shard whose codes are dropped into the stored states."""
        if self.work.settings.keep_codes:
            return 0.0
        run = Checkpoint(self.scratch / self.sae.info.name)
        states = {name: each[0] for name, each in finals.states.items()}
        began = self.clock()
        run.count_in(states, number=0)
        run.reduced()
        return self.clock() - began

    def _reducing(self, block: Block) -> "tuple[float, float, list[_Finals]]":
        """Return the seconds to reduce a token and a shard, and final states of two sizes.

        The sample is one block, which grows until ``ENOUGH`` seconds have passed and it has
        its share of the text. The cost of a token is the difference to half of the block:
        the fixed cost of a block must not be scaled by the length of the text, and a token
        of a dense SAE costs more in a longer block, where more pairs of features occur.
        """
        enough = ENOUGH / max(1, len(self.work.group.saes))
        most = int(SHARE * self.tokens / REPEATS)
        number = min(FEW, len(block))
        self._reduce(block, number)
        while True:
            seconds = self._reduce(block, number)[0]
            if number == len(block) or (seconds > enough and number >= most):
                break
            number = min(GROWTH * number, len(block))
            if seconds > enough:
                number = min(number, most)
        # The last size runs again, since its first run may have compiled a loop.
        again, full = self._reduce(block, number)
        one, half = self._reduce(block, number // 2)
        complete = min(seconds, again)
        token = max(complete - one, 0.0) / max(1, number - number // 2)
        return token, max(0.0, complete - token * number), [half, full]

    def _reduce(self, block: Block, number: int) -> "tuple[float, _Finals]":
        """Reduce the first tokens as a shard of one block."""
        info = self.sae.info
        path = self.scratch / "sample.arrow"
        write_shard(path, [_rows(block, 0, number)], sae=info.name, d_sae=info.d_sae, first=0)
        reductions = on_codes(self.work.settings)
        plans = plan_all(reductions, self._sizes, memory=self.work.settings.memory)
        passes = _Passes(self.clock)
        began = self.clock()
        states = reduce_shards([path], reductions, plans, sizes=self._sizes, stage=passes)
        seconds = self.clock() - began
        first = (passes.ends[0] - began) / seconds if seconds else 0.0
        limit = sum(plan.bytes for plan in plans.values())
        return seconds, _Finals(number, states, first, limit)

    def _tables(self, finals: "Sequence[_Finals]") -> float:
        """Return the seconds to compute and write the tables of the text.

        The cost of tables of no tokens, such as one row per feature and the files, is fixed.
        The rest grows at most as fast as between the two sizes. It may not grow at all once
        features have all their examples and pairs repeat. The geometric mean of both is used.
        """
        half, full = finals
        fixed = self._table(self._reduce(_empty_block(self.sae), 0)[1])[0]
        (_, before), (seconds, after) = self._table(half), self._table(full)
        variable = max(0.0, seconds - fixed)
        if not (0 < half.tokens < full.tokens and 0 < before < after):
            return fixed + variable
        growth = min(1.0, math.log(after / before) / math.log(full.tokens / half.tokens))
        return fixed + variable * float(max(1.0, self.tokens / full.tokens) ** (growth / 2))

    def _table(self, finals: "_Finals") -> tuple[float, int]:
        """Write the tables of final states; return the seconds and the bytes."""
        import pyarrow.parquet as pq

        model = self.work.group.model
        texts = partial(token_texts, model.tokenizer)
        info = self.sae.info
        subject = ReducedSae(info.name, info.d_sae, model.tokenizer_key, texts)
        number, began = 0, self.clock()
        for reduction in on_codes(self.work.settings):
            with atomic_folder(self.scratch / "part") as unfinished:
                for table in reduction.tables(finals.states[reduction.name], subject):
                    file = unfinished / f"{table.name}.parquet"
                    pq.write_table(table.data, file, compression="zstd")
                    number += table.data.nbytes
        return self.clock() - began, number


@dataclass(frozen=True)
class _Finals:
    """Final states, the number of their tokens, and the share and memory of the first pass."""

    tokens: int
    states: dict[str, list[State]]
    first: float
    first_bytes: int


class _Passes:
    """A stage that records when each pass over a shard ends."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.ends: list[float] = []

    def advance(self, by: float = 1) -> None:
        """Record the end of a pass."""
        self.ends.append(self.clock())


def _rows(block: Block, start: int, end: int) -> Block:
    """Return consecutive tokens of a block."""
    first, last = block.indptr[start], block.indptr[end]
    return Block(
        block.number,
        _tokens(block.tokens, slice(start, end)),
        block.indptr[start : end + 1] - first,
        block.indices[first:last],
        block.values[first:last],
        block.d_sae,
    )


def _empty_block(sae: Autoencoder) -> Block:
    """Return a block without tokens."""
    tokens = Tokens(*(np.zeros(0, dtype) for dtype in ("i4", "i8", "i4", "i4", "i4", "i4")))
    return join_pieces(0, tokens, [], d_sae=sae.info.d_sae)
