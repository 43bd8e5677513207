"""Computation of final states from codes, in the planned passes, merged in shard order."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from atlas.errors import OutOfSpace
from atlas.progress import Stage
from ingest.codes.store import read_shard
from ingest.reduce.protocol import CodeReduction, Plan, Sizes, State

__all__ = ["FirstPass", "fold_shard", "plan_all", "reduce_shards"]


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
                "`memory`."
            )
    return plans


def reduce_shards(
    shards: Sequence[Path],
    reductions: Sequence[CodeReduction],
    plans: Mapping[str, Plan],
    *,
    sizes: Sizes,
    stage: Stage,
    first: "FirstPass | None" = None,
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
    first
        The first pass, computed earlier; it is used if the plans have not changed since.

    Returns
    -------
    dict
        The final state of each pass, by the reduction's name.
    """
    finals: dict[str, list[State]] = {r.name: [] for r in reductions}
    begin = 0
    if first is not None and first.fits(plans, shards=len(shards)):
        finals = {name: [state] for name, state in first.states.items()}
        begin = 1
        stage.advance(len(shards))
    for pass_index in range(begin, max(plan.passes for plan in plans.values())):
        active = [r for r in reductions if plans[r.name].passes > pass_index]
        states: dict[str, State] = {}
        for path in shards:
            fold_shard(states, path, active, plans=plans, sizes=sizes, before=finals)
            stage.advance()
        for reduction in active:
            finals[reduction.name].append(states[reduction.name])
    return finals


class FirstPass:
    """The first pass over the codes of an SAE, while its later shards are still being computed.

    The size of the codes is then not known, so the plans are those of a forecast. The states of
    a first pass depend on the number of passes alone: if the final plans have the same numbers,
    the states are those that ``reduce_shards`` computes. Otherwise it computes them again.

    Parameters
    ----------
    reductions
        The reductions over codes.
    plans, sizes
        Their plans for codes of these sizes.
    """

    def __init__(
        self, reductions: Sequence[CodeReduction], plans: Mapping[str, Plan], *, sizes: Sizes
    ) -> None:
        self.states: dict[str, State] = {}
        self.shards = 0
        self._reductions, self._plans, self._sizes = reductions, plans, sizes

    @property
    def bytes(self) -> int:
        """The limit of its bytes."""
        return sum(plan.bytes for plan in self._plans.values())

    def add(self, path: Path) -> None:
        """Reduce the next shard, in the order of the text."""
        before: dict[str, list[State]] = {r.name: [] for r in self._reductions}
        fold_shard(
            self.states,
            path,
            self._reductions,
            plans=self._plans,
            sizes=self._sizes,
            before=before,
        )
        self.shards += 1

    def fits(self, plans: Mapping[str, Plan], *, shards: int) -> bool:
        """Return whether it has all shards, and its plans have as many passes as the final ones."""
        expected = {name: plan.passes for name, plan in self._plans.items()}
        return self.shards == shards and expected == {n: p.passes for n, p in plans.items()}


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
