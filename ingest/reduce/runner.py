"""Codes into final states: each reduction looks as often as it planned, merged in shard order."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from atlas.errors import OutOfRoom
from atlas.progress import Stage
from ingest.codes.store import read_shard
from ingest.reduce.protocol import CodeReduction, Plan, Sizes, State

__all__ = ["fold_shard", "plan_all", "reduce_shards"]


def plan_all(reductions: Sequence[CodeReduction], sizes: Sizes, *, memory: int) -> dict[str, Plan]:
    """Ask every reduction for its plan, the memory shared among them.

    Raises
    ------
    OutOfRoom
        If one of them cannot be done in this memory.
    """
    plans: dict[str, Plan] = {}
    left = memory
    for reduction in reductions:
        plan = reduction.plan(sizes, memory=left)
        plans[reduction.name] = plan
        left -= plan.bytes
        if left < 0:
            raise OutOfRoom(
                f"The states of {', '.join(plans)} take {(memory - left) / 2**20:,.1f} MiB for "
                f"{sizes.d_sae:,} features, and {memory / 2**20:,.1f} MiB are allowed; raise --memory."
            )
    return plans


def reduce_shards(
    shards: Sequence[Path],
    reductions: Sequence[CodeReduction],
    plans: Mapping[str, Plan],
    *,
    sizes: Sizes,
    stage: Stage,
) -> dict[str, list[State]]:
    """Reduce kept codes.

    Parameters
    ----------
    shards
        The files of codes, in corpus order.
    reductions, plans
        What to compute, and how often each looks.
    sizes
        How large the codes are.
    stage
        Told of every shard looked at.

    Returns
    -------
    dict
        The final state of each look, by the reduction's name.
    """
    finals: dict[str, list[State]] = {r.name: [] for r in reductions}
    for look in range(max(plan.looks for plan in plans.values())):
        looking = [r for r in reductions if plans[r.name].looks > look]
        states: dict[str, State] = {}
        for path in shards:
            fold_shard(states, path, looking, plans=plans, sizes=sizes, before=finals)
            stage.advance()
        for reduction in looking:
            finals[reduction.name].append(states[reduction.name])
    return finals


def fold_shard(
    states: dict[str, State],
    path: Path,
    reductions: Sequence[CodeReduction],
    *,
    plans: Mapping[str, Plan],
    sizes: Sizes,
    before: Mapping[str, Sequence[State]],
) -> None:
    """Merge one shard into the states, which are begun if they are empty.

    Reductions know nothing of each other, so each block is given to all of them at once.
    """
    fresh = {
        r.name: r.start(len(before[r.name]), before[r.name], sizes=sizes, looks=plans[r.name].looks)
        for r in reductions
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for block in read_shard(path):
            for done in [pool.submit(r.update, fresh[r.name], block) for r in reductions]:
                done.result()
    for reduction in reductions:
        name = reduction.name
        states[name] = reduction.merge(states[name], fresh[name]) if name in states else fresh[name]
