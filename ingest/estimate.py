"""What a run will take, said before it begins: measured on one compute batch, scaled by text."""

import shutil
import time
from pathlib import Path

import torch

from atlas.errors import OutOfRoom
from atlas.progress import Progress
from ingest.contexts import tokenize
from ingest.corpus import Corpus
from ingest.settings import Settings
from ingest.shards import Group

__all__ = ["estimate"]

ENTRY_BYTES = 8  # an active feature on a token: uint32 and float32
TOKEN_BYTES = 36  # a token: six columns and two list offsets


def estimate(
    group: Group, corpus: Corpus, *, folder: Path, settings: Settings, progress: Progress
) -> None:
    """Tell tokens, disk and time of a run, from one compute batch of the first block.

    Raises
    ------
    OutOfRoom
        If the codes would not fit on the disk.
    """
    first = corpus.block(0)
    text = tokenize(
        first, group.model.tokenizer, settings=group.contexts, batch_tokens=group.batch_tokens
    )
    if not text.batches:
        return
    share = sum(len(d.text.encode()) for d in first) / corpus.info.bytes
    tokens = int(len(text.tokens) / share)
    batch = text.batches[-1]
    began = time.perf_counter()
    read = group.model.run(
        torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask), hooks=group.hooks
    )
    keep = torch.from_numpy(batch.keep).to(group.model.device)
    entries = [len(s.codes(read[s.info.hook][keep].float())[1]) for s in group.saes]
    seconds = (time.perf_counter() - began) * tokens / max(len(batch.rows), 1)
    l0 = [n / max(len(batch.rows), 1) for n in entries]
    size = int(tokens * sum(ENTRY_BYTES * x + TOKEN_BYTES for x in l0))
    kept = "kept" if settings.keep_codes else "dropped shard by shard"
    progress.say(
        f"About {tokens:,} tokens through {group.model.name} ({group.model.device.type}, "
        f"{group.model.dtype}) and {len(group.saes)} SAE(s), L0 about "
        f"{', '.join(f'{x:.0f}' for x in l0)}: codes of {_size(size)} ({kept}), about {_time(seconds)}."
    )
    needed = size if settings.keep_codes else size * settings.shard_blocks // max(len(corpus), 1)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutOfRoom(
            f"The codes will take about {_size(needed)}, and {_size(free)} are free at {folder}. Use "
            "--no-keep-codes, fewer --tokens, or an --atlas on another disk."
        )


def _size(n: int) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.0f} MiB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
