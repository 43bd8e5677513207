"""Forecasts of studies: the cost of tasks, measured on samples, and its correction during the run."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atlas.amounts import byte_size
from atlas.progress import SILENT, Clock, Pace, Progress, duration

__all__ = ["Cost", "Forecast", "timed", "total_cost"]

#: Seconds, and share of the forecast, after which no further group is measured. The others count as
#: the mean of the measured.
BUDGET, SHARE = 0.5, 0.02

#: Seconds between two reports of how many groups are done.
_SILENCE = 10.0


@dataclass(frozen=True)
class Cost:
    """The cost of a task.

    Parameters
    ----------
    seconds
        Seconds in one process.
    bytes
        Bytes of memory of the largest arrays.
    once
        Further seconds in each process, whatever the number of its tasks, such as to compile loops.
    """

    seconds: float
    bytes: int = 0
    once: float = 0.0


def timed(work: Callable[[], object], *, clock: Clock = time.perf_counter) -> float:
    """Return the seconds of a call.

    Examples
    --------
    >>> timed(lambda: sum(range(10))) > 0
    True
    """
    began = clock()
    work()
    return max(clock() - began, 1e-9)


def total_cost(costs: Sequence[Cost]) -> Cost:
    """Return the cost of tasks that run one after the other: all seconds, and the most bytes.

    Examples
    --------
    >>> total_cost([Cost(1.5, 10), Cost(2.0, 30, once=5.0)])
    Cost(seconds=3.5, bytes=30, once=5.0)
    """
    return Cost(
        math.fsum(cost.seconds for cost in costs),
        max((cost.bytes for cost in costs), default=0),
        max((cost.once for cost in costs), default=0.0),
    )


class Forecast:
    """The forecast of groups of tasks: reported before the work, and corrected during it.

    Parameters
    ----------
    kind
        Kind of the study.
    costs
        The cost of each task of each group, in the order in which tasks finish; None without
        a forecast.
    processes
        Number of processes that share the groups.
    progress
        Receives the forecast, its correction and the remaining time.
    clock
        Returns the time in seconds.
    """

    def __init__(
        self,
        kind: str,
        costs: Sequence[Sequence[Cost]] | None,
        *,
        groups: int,
        processes: int = 1,
        progress: Progress = SILENT,
        clock: Clock = time.monotonic,
    ) -> None:
        self._kind, self._groups, self._progress, self._clock = kind, groups, progress, clock
        self._processes = min(max(processes, 1), max(groups, 1))
        self._costs = costs
        self._pace: Pace | None = None
        self._begin = self._reported = clock()
        self._finished = 0
        self._first = True

    @property
    def seconds(self) -> float | None:
        """Forecast seconds of all tasks, shared by the processes; None without a forecast."""
        if not self._costs:
            return None
        cost = total_cost([cost for group in self._costs for cost in group])
        return cost.seconds / self._processes + cost.once

    @classmethod
    def measured(
        cls,
        kind: str,
        measure: Callable[[int], Sequence[Cost] | None],
        *,
        sizes: Sequence[int],
        least: int = 1,
        processes: int = 1,
        progress: Progress = SILENT,
        clock: Clock = time.monotonic,
    ) -> "Forecast":
        """Measure the groups until ``BUDGET`` or ``SHARE`` is spent.

        Parameters
        ----------
        measure
            Function from the number of a group to the cost of each of its tasks; None if the
            study has no forecast.
        sizes
            Number of tasks of each group.
        least
            Number of groups that are measured even if more is spent.
        kind, processes, progress, clock
            See ``Forecast``.
        """
        costs: list[Sequence[Cost]] = []
        began, spent = clock(), 0.0
        for number in range(len(sizes)):
            if len(costs) >= least and clock() - began > max(BUDGET, SHARE * spent):
                break
            found = measure(number)
            if found is None:
                costs = []
                break
            costs.append(found)
            spent += total_cost(found).seconds
        if costs:
            every = [cost for group in costs for cost in group]
            total = total_cost(every)
            mean = Cost(total.seconds / max(len(every), 1), total.bytes)
            costs += [[mean] * size for size in sizes[len(costs) :]]
        return cls(
            kind, costs, groups=len(sizes), processes=processes, progress=progress, clock=clock
        )

    def begin(self) -> None:
        """Report the forecast; the time of the work counts from here."""
        self._begin = self._reported = self._clock()
        if not self._costs:
            return
        cost = total_cost([cost for group in self._costs for cost in group])
        seconds, tasks = self.seconds or 0.0, sum(map(len, self._costs))
        self._pace = Pace({self._kind: seconds}, progress=self._progress, clock=self._clock)
        shared = f" in {self._processes} processes" if self._processes > 1 else ""
        self._progress.report(
            f"{self._kind}: about {duration(seconds)} and {byte_size(cost.bytes)} of memory beyond the program "
            f"for {tasks} task{'s' if tasks != 1 else ''}{shared}."
        )

    def task_done(self, group: int, task: int) -> None:
        """Record that a task of a group is finished, and correct the forecast."""
        if self._pace is not None and self._costs is not None:
            known = task < len(self._costs[group])
            seconds = self._costs[group][task].seconds / self._processes if known else 0.0
            if self._first:
                seconds += total_cost([cost for each in self._costs for cost in each]).once
            self._first = False
            self._pace.lap(self._kind, seconds)

    def group_done(self) -> None:
        """Report the number of finished groups and the remaining time, at most every ten seconds."""
        self._finished += 1
        now = self._clock()
        if self._finished >= self._groups or now - self._reported <= _SILENCE:
            return
        self._reported = now
        rest = (now - self._begin) / self._finished * (self._groups - self._finished)
        if self._pace is not None:
            rest = self._pace.seconds_remaining
        self._progress.report(
            f"{self._kind}: {self._finished} of {self._groups} done, about {duration(rest)} remain."
        )
