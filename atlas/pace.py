"""How long work takes: a forecast, and its correction by the work that is done."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from atlas.progress import SILENT, Progress, Stage

__all__ = ["Clock", "Pace", "duration", "rough"]

Clock: TypeAlias = Callable[[], float]
"""Returns seconds that never go backwards; tests pass their own."""

SHARE = 0.05
"""Share of the work that has to be done before the forecast is judged: less is mostly start-up."""

FACTOR = 1.5
"""How far the measured pace may be from the forecast without a message."""

WORTH = 30.0
"""Seconds by which the end has to move before a message is worth reading."""


class Pace:
    """Compares a forecast with the work that is done, and corrects the time that remains.

    Work is of several kinds, such as running a model and reducing codes. The measured pace
    of a kind corrects the remainder of that kind only: a slow model says nothing about the
    reductions.

    Parameters
    ----------
    forecast
        Seconds expected for each kind of work.
    progress
        Receives the corrected forecast, once at most.
    clock
        Gives the time in seconds.
    """

    def __init__(
        self,
        forecast: Mapping[str, float],
        *,
        progress: Progress = SILENT,
        clock: Clock = time.monotonic,
    ) -> None:
        self._forecast = dict(forecast)
        self._done = dict.fromkeys(forecast, 0.0)
        self._spent = dict.fromkeys(forecast, 0.0)
        self._progress = progress
        self._clock = clock
        self._since = clock()
        self._corrected = False

    @property
    def forecast(self) -> float:
        """The seconds that were expected for all of the work."""
        return sum(self._forecast.values())

    @property
    def seconds_left(self) -> float:
        """The seconds that the rest takes at the pace measured so far."""
        return sum(map(self._left, self._forecast))

    @property
    def title(self) -> str:
        """The remaining time for the title of a stage; empty until work is measured."""
        if not any(self._done.values()) or self.seconds_left < WORTH:
            return ""
        return f" (about {duration(self.seconds_left)} left in all)"

    def skip(self) -> None:
        """Begin a lap, so that the time since the last one counts for no work."""
        self._since = self._clock()

    def lap(self, kind: str, seconds: float) -> None:
        """Record that a piece of work is done.

        Parameters
        ----------
        kind
            The kind of work, one of those in the forecast. It took the time since the last lap.
        seconds
            The seconds that were expected for this piece.
        """
        now = self._clock()
        self._spent[kind] += now - self._since
        self._done[kind] += seconds
        self._since = now
        self._correct()

    @contextmanager
    def stage(
        self,
        title: str,
        *,
        kind: str,
        seconds: float,
        total: float,
        done: float = 0.0,
        unit: str = "",
    ) -> Iterator[Stage]:
        """Begin a stage of the progress, whose advances are laps.

        Parameters
        ----------
        title, total, unit
            As for ``Progress.stage``; the remaining time of all work is added to the title.
        kind, seconds
            The kind of work, and the seconds expected for this stage.
        done
            How much of ``total`` an earlier run has done.
        """
        with self._progress.stage(f"{title}{self.title}", total=total, unit=unit) as stage:
            stage.advance(done)
            self.skip()
            yield _Timed(stage, self, kind, seconds / (total - done) if total > done else 0.0)
            self.lap(kind, 0.0)  # what came after the last advance

    def _left(self, kind: str) -> float:
        rest = max(0.0, self._forecast[kind] - self._done[kind])
        if not self._done[kind]:
            return rest
        return rest * self._spent[kind] / self._done[kind]

    def _correct(self) -> None:
        """Report the corrected time once, if it is far from the forecast."""
        expected, done = self.forecast, sum(self._done.values())
        if self._corrected or done < SHARE * expected:
            return
        left = self.seconds_left
        total = sum(self._spent.values()) + left
        far = total > FACTOR * expected or FACTOR * total < expected
        if far and abs(left - max(0.0, expected - done)) >= WORTH:
            self._corrected = True
            self._progress.report(
                f"Measured pace: about {duration(left)} left. The forecast for all of this work was "
                f"{duration(expected)}; {duration(total)} are expected now."
            )


@dataclass(frozen=True)
class _Timed:
    """A stage whose advances are laps of a pace."""

    stage: Stage
    pace: Pace
    kind: str
    seconds: float

    def advance(self, by: float = 1) -> None:
        """Record that this much more is done."""
        self.stage.advance(by)
        self.pace.lap(self.kind, by * self.seconds)


def duration(seconds: float) -> str:
    """Return a length of time in words, as precise as a forecast can be.

    Examples
    --------
    >>> duration(0.2), duration(70), duration(600), duration(9000)
    ('1 second', '70 seconds', '10 minutes', '2.5 hours')
    """
    if seconds < 90:
        number = max(1, round(seconds))
        return f"{number} second{'s' if number > 1 else ''}"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def rough(seconds: float) -> str:
    """Return a forecast that rests on no measurement, as a range.

    Examples
    --------
    >>> rough(60)
    'roughly 30 seconds to 3 minutes, by a first guess'
    """
    return f"roughly {duration(seconds / 2)} to {duration(seconds * 3)}, by a first guess"
