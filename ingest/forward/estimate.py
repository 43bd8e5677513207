"""What a run will take, said before it begins: measured on a few contexts, scaled by text."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from atlas.errors import OutOfRoom
from atlas.progress import Progress
from ingest.forward.shard_runner import Pass
from ingest.reduce import on_codes
from ingest.reduce.protocol import Sizes
from ingest.reduce.runner import plan_all
from ingest.text.tokenization import tokenize

__all__ = ["estimate"]

#: Tokens that are run to measure: enough to keep a device busy, little beside any real text.
SAMPLE = 1024

#: SAEs whose L0 is told one by one.
SAID = 6

ENTRY_BYTES = 8  # an active feature on a token: uint32 and float32
TOKEN_BYTES = 36  # a token: six columns and two list offsets


@dataclass(frozen=True)
class _Sample:
    """What a few contexts tell of the whole text."""

    tokens: int
    l0: dict[str, float]
    seconds: float


def estimate(work: Pass, *, folder: Path, progress: Progress) -> None:
    """Tell tokens, disk and time of what is left of a run.

    Raises
    ------
    OutOfRoom
        If the codes would not fit on the disk, or the reductions into memory.
    """
    sample = _measure(work)
    if sample is None:
        return
    group, settings = work.group, work.settings
    left = {name: work.unfinished(name) / work.shards for name in sample.l0}
    size = int(
        sum(
            sample.tokens * left[name] * (ENTRY_BYTES * l0 + TOKEN_BYTES)
            for name, l0 in sample.l0.items()
        )
    )
    kept = "kept" if settings.keep_codes else "dropped shard by shard"
    going_on = "" if min(left.values()) == 1 else f", {max(left.values()):.0%} of it still to do"
    # How far workers shorten it is not known before: on one machine they share its CPUs.
    by_one = " in one process, less on workers" if settings.workers or settings.ray else ""
    progress.say(
        f"About {sample.tokens:,} tokens through {group.model.name} ({group.model.device.type}, "
        f"{group.model.dtype}) and {len(group.saes)} SAE(s), L0 about "
        f"{_l0(list(sample.l0.values()))}{going_on}: codes of {_size(size)} ({kept}), "
        f"about {_time(sample.seconds * max(left.values()))}{by_one}."
    )
    _check_memory(work, sample)
    # A shard's codes go once all shards before it are finished: with workers, some wait.
    held = 1 + 2 * settings.workers
    needed = size if settings.keep_codes else min(size, size * held // max(work.shards, 1))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutOfRoom(
            f"The codes will take about {_size(needed)}, and {_size(free)} are free at {folder}. Use "
            "--no-keep-codes, fewer --tokens, or an --atlas on another disk."
        )


def _measure(work: Pass) -> _Sample | None:
    group, corpus = work.group, work.corpus
    first = corpus.block(0)
    text = tokenize(
        first, group.model.tokenizer, settings=group.contexts, batch_tokens=group.batch_tokens
    )
    if not text.batches:
        return None
    tokens = int(len(text.tokens) * corpus.info.bytes / sum(len(d.text.encode()) for d in first))
    batch = text.batches[-1]  # of the longest contexts
    few = max(1, SAMPLE // batch.input_ids.shape[1])
    ids, mask, keep = (
        torch.from_numpy(array[:few])
        for array in (batch.input_ids, batch.attention_mask, batch.keep)
    )
    began = time.perf_counter()
    read = group.model.run(ids, mask, hooks=group.hooks)
    counted = max(int(keep.sum()), 1)
    l0 = {s.info.name: len(s.codes(s.reads(read, keep, ids)).values) / counted for s in group.saes}
    return _Sample(tokens, l0, (time.perf_counter() - began) * tokens / counted)


def _l0(those: list[float]) -> str:
    """Say the L0 of each SAE, or, of many, from what to what."""
    if len(those) > SAID:
        return f"{min(those):.0f} to {max(those):.0f}"
    return ", ".join(f"{x:.0f}" for x in those)


def _check_memory(work: Pass, sample: _Sample) -> None:
    """Ask the reductions before the work, by the numbers that are expected."""
    for sae in work.group.saes:
        sizes = Sizes(
            d_in=sae.info.d_in,
            d_sae=sae.info.d_sae,
            tokens=sample.tokens,
            l0=sample.l0[sae.info.name],
            vocabulary=work.group.model.vocabulary,
            codes_kept=work.settings.keep_codes,
        )
        plan_all(on_codes(work.settings), sizes, memory=work.settings.memory)


def _size(n: int) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.0f} MiB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
