"""The forecast of a run: tokens, disk space and seconds, from costs measured on a sample."""

import shutil
import time
from pathlib import Path

from atlas.amounts import byte_size, counted, span
from atlas.errors import OutOfSpace
from atlas.progress import Clock, Progress, duration
from ingest.forward.forecast import Forecast
from ingest.forward.overlap import has_idle_core
from ingest.forward.sample import Costs, measure
from ingest.forward.shard_runner import ShardRunner

__all__ = ["estimate", "forecast"]

#: Most SAEs whose L0 is reported individually.
LISTED = 6

ENTRY_BYTES = 8  # an active feature on a token: uint32 and float32
TOKEN_BYTES = 36  # a token: six columns and two list offsets


def forecast(work: ShardRunner, costs: Costs) -> Forecast:
    """Compute the seconds of a run from its costs.

    Parameters
    ----------
    work
        The run; shards that an interrupted run has finished are not counted.
    costs
        The costs of a token, a shard and an SAE.

    Wherever a core is idle, finished shards are stored and reduced while the device computes the
    next ones. The run then takes as long as the longer of both, plus a shard of the other.
    """
    shares = {name: work.unfinished(name) / max(work.shards, 1) for name in costs.saes}
    computing = costs.tokens * costs.model * max(shares.values(), default=0.0)
    storing, reduce = 0.0, {}
    idle, stored = has_idle_core(work.group.model.device, work.settings), work.settings.keep_codes
    memory = work.settings.memory
    for name, cost in costs.saes.items():
        computing += shares[name] * costs.tokens * cost.encode
        storing += shares[name] * (costs.tokens * cost.write + work.shards * cost.write_shard)
        reduce[name] = costs.tokens * cost.reduce + work.shards * cost.reduce_shard
        if not stored:
            storing += shares[name] * reduce[name]
            reduce[name] = 0.0
        elif idle and cost.first_bytes <= memory:  # as ``ShardRunner._first_pass``
            memory -= cost.first_bytes
            storing += cost.first * reduce[name]
            reduce[name] *= 1 - cost.first
    seconds = computing + storing
    if idle:
        both = computing, storing
        seconds = max(both) + min(both) / max(work.shards, 1)
    return Forecast(seconds, reduce, {name: cost.parts for name, cost in costs.saes.items()})


def estimate(
    work: ShardRunner, *, folder: Path, progress: Progress, clock: Clock = time.perf_counter
) -> Forecast:
    """Measure a sample, and report the tokens, disk space and time of the remaining run.

    Parameters
    ----------
    work
        The run.
    folder
        The atlas.
    progress
        Receives the forecast.
    clock
        Returns the time in seconds.

    Raises
    ------
    OutOfSpace
        If the codes do not fit on the disk, or the reductions into memory.
    """
    costs = measure(work, folder=folder, clock=clock)
    if costs is None:
        return Forecast()
    expected, size = forecast(work, costs), _bytes(work, costs)
    progress.report(_sentence(work, costs, expected, size))
    _check_disk(work, size, folder)
    return expected


def _bytes(work: ShardRunner, costs: Costs) -> int:
    """Return the bytes of the codes still to be written."""
    return int(
        sum(
            costs.tokens
            * (work.unfinished(name) / max(work.shards, 1))
            * (ENTRY_BYTES * cost.l0 + TOKEN_BYTES)
            for name, cost in costs.saes.items()
        )
    )


def _sentence(work: ShardRunner, costs: Costs, expected: Forecast, size: int) -> str:
    group, settings = work.group, work.settings
    shares = [work.unfinished(name) / max(work.shards, 1) for name in costs.saes]
    stored = "stored" if settings.keep_codes else "dropped shard by shard"
    rest = "" if min(shares) == 1 else f", {max(shares):.0%} of it still to do"
    # The speed-up by workers cannot be predicted: on one machine they share its CPUs.
    one = " in one process, less on workers" if settings.workers or settings.ray else ""
    return (
        f"About {costs.tokens:,} tokens through {group.model.name} ({group.model.device.type}, "
        f"{group.model.dtype}) and {counted(len(group.saes), 'SAE')}, L0 about "
        f"{_l0([cost.l0 for cost in costs.saes.values()])}{rest}: codes of {byte_size(size)} ({stored}), "
        f"about {duration(expected.seconds)}{one}."
    )


def _check_disk(work: ShardRunner, size: int, folder: Path) -> None:
    # The codes of a shard are removed once all shards before it are finished; with workers, some wait.
    waiting = 1 + 2 * work.settings.workers
    needed = size
    if not work.settings.keep_codes:
        needed = min(size, size * waiting // max(work.shards, 1))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutOfSpace(
            f"The codes will take about {byte_size(needed)}, and {byte_size(free)} are free at {folder}. Use "
            "`keep_codes=False`, fewer `tokens`, or an `atlas` on another disk."
        )


def _l0(values: list[float]) -> str:
    """Format the L0 of each SAE, or their range if there are many SAEs or all are equal."""
    if len(values) > LISTED or len({f"{x:.0f}" for x in values}) == 1:
        return span(values)
    return ", ".join(f"{x:.0f}" for x in values)
