"""Computation of final states from codes, in the planned passes, merged in shard order."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from atlas.errors import OutOfSpace
from atlas.progress import Stage
from ingest.codes.store import read_shard
from ingest.reduce.protocol import CodeReduction, Plan, Sizes, State

__all__ = ["fold_shard", "plan_all", "reduce_shards"]


def plan_all(reductions: Sequence[CodeReduction], sizes: Sizes, *, memory: int) -> dict[str, Plan]:
    """Return the plan of every reduction; they share the memory.

    Raises
    ------
    OutOfSpace
        If one of them does not fit into the remaining memory.
    """
    plans: dict[str, Plan] = {}
    remaining = memory
    for reduction in reductions:
        plan = reduction.plan(sizes, memory=remaining)
        plans[reduction.name] = plan
        remaining -= plan.bytes
        if remaining < 0:
            raise OutOfSpace(
                f"The states of {', '.join(plans)} need {(memory - remaining) / 2**20:,.1f} MiB for "
                f"{sizes.d_sae:,} features, but only {memory / 2**20:,.1f} MiB are allowed; raise "
                "--memory."
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
    """Reduce stored codes.

    Parameters
    ----------
    shards
        The files of codes, in corpus order.
    reductions, plans
        The reductions, and the number of passes of each.
    sizes
        Size of the codes.
    stage
        Notified of every shard.

    Returns
    -------
    dict
        The final state of each pass, by the reduction's name.
    """
    finals: dict[str, list[State]] = {r.name: [] for r in reductions}
    for pass_index in range(max(plan.passes for plan in plans.values())):
        active = [r for r in reductions if plans[r.name].passes > pass_index]
        states: dict[str, State] = {}
        for path in shards:
            fold_shard(states, path, active, plans=plans, sizes=sizes, before=finals)
            stage.advance()
        for reduction in active:
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
    """Merge one shard into the states; an empty dict of states is filled.

    Reductions are independent, so each block is passed to all of them in parallel.
    """
    fresh = {
        r.name: r.start(
            len(before[r.name]), before[r.name], sizes=sizes, passes=plans[r.name].passes
        )
        for r in reductions
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for block in read_shard(path):
            for done in [pool.submit(r.update, fresh[r.name], block) for r in reductions]:
                done.result()
    for reduction in reductions:
        name = reduction.name
        states[name] = reduction.merge(states[name], fresh[name]) if name in states else fresh[name]
