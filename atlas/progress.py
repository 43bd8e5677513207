"""Progress of long work: a protocol, a silent implementation and progress bars.

Functions take a ``Progress`` and never print. Bars go to stderr, results to stdout.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from atlas.safe_text import shown

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = [
    "SILENT",
    "Bars",
    "Clock",
    "Pace",
    "Progress",
    "Silent",
    "Stage",
    "WithoutRemarks",
    "duration",
    "report_remark",
    "rough",
]


# Widths of a bar, and of the elapsed and the remaining time with the gaps between columns.
_BAR, _TIMES = 12, 20


class Stage(Protocol):
    """One stage of running work."""

    def advance(self, by: float = 1) -> None:
        """Add ``by`` to the finished work."""


class Progress(Protocol):
    """Receives the progress of work."""

    def stage(
        self, title: str, *, total: float | None = None, unit: str = ""
    ) -> AbstractContextManager[Stage]:
        """Begin a stage of ``total`` units; None if the total is unknown."""

    def report(self, sentence: str) -> None:
        """Report a message, such as a time estimate."""


class _SilentStage:
    def advance(self, by: float = 1) -> None:
        pass


class Silent:
    """Discard all progress."""

    @contextmanager
    def stage(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Stage]:
        """Begin a stage."""
        yield _SilentStage()

    def report(self, sentence: str) -> None:
        """Discard a message."""


SILENT = Silent()


@dataclass(frozen=True)
class _Bar:
    bars: "RichProgress"
    task: "TaskID"

    def advance(self, by: float = 1) -> None:
        self.bars.advance(self.task, by)


class Bars:
    """Draw a bar for each stage on stderr, or one plain line if stderr is not a terminal.

    Parameters
    ----------
    remarks_last
        Whether remarks on a result wait for ``print_remarks``, which the caller calls after it has
        printed the result. Otherwise they are printed at once.
    translate
        Translates each sentence before it is printed.
    """

    def __init__(
        self, *, remarks_last: bool = False, translate: Callable[[str], str] = str
    ) -> None:
        from rich.console import Console

        self._translate = translate
        self._console = Console(stderr=True, markup=False)
        self._reported: set[str] = set()
        self._remarks: list[str] | None = [] if remarks_last else None

    @contextmanager
    def stage(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Stage]:
        """Begin a stage and draw its bar until it ends."""
        from rich import progress as rp
        from rich.table import Column

        title = shown(title)
        if not self._console.is_terminal:
            self._console.print(f"{title} …", highlight=False, soft_wrap=True)
            yield _SilentStage()
            return
        # A long title is shortened, so that the amounts stay complete at 80 columns.
        amount = f"{total:,.0f}/{total:,.0f} {unit}" if total else unit
        most = max(12, self._console.width - len(amount) - _BAR - _TIMES)
        with rp.Progress(
            rp.TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", max_width=most),
            ),
            rp.BarColumn(bar_width=_BAR),
            rp.TextColumn(
                f"{{task.completed:,.0f}}/{{task.total:,.0f}} {unit}" if total else unit,
                table_column=Column(no_wrap=True, min_width=len(amount)),
            ),
            rp.TimeElapsedColumn(),
            rp.TimeRemainingColumn(),
            console=self._console,
        ) as bars:
            yield _Bar(bars, bars.add_task(title, total=total))

    def report(self, sentence: str) -> None:
        """Print a line above the bars, once if it is repeated."""
        sentence = self._translate(sentence)
        if sentence in self._reported:
            return
        self._reported.add(sentence)
        soft = not self._console.is_terminal  # a pipe has one line for each sentence
        self._console.print(shown(sentence), highlight=False, soft_wrap=soft)

    def remark(self, sentence: str) -> None:
        """Print a remark on the result, which may wait until the result is printed."""
        sentence = self._translate(sentence)
        if self._remarks is None:
            self.report(sentence)
        else:
            self._remarks.append(sentence)

    def print_remarks(self) -> None:
        """Print the remarks that waited for the result."""
        for sentence in self._remarks or ():
            self.report(sentence)


class WithoutRemarks:
    """Pass progress on, and omit remarks on results: for a program that knows what they advise.

    Parameters
    ----------
    progress
        Receives the rest.
    """

    def __init__(self, progress: Progress) -> None:
        self.stage, self.report = progress.stage, progress.report

    def remark(self, sentence: str) -> None:
        """Discard a remark."""


def report_remark(progress: Progress, sentence: str) -> None:
    """Report a remark on a result: after the result, if the progress can wait for it.

    Parameters
    ----------
    progress
        Receives the remark.
    sentence
        The remark.
    """
    getattr(progress, "remark", progress.report)(sentence)


Clock: TypeAlias = Callable[[], float]
"""A monotonic clock in seconds; tests pass their own."""

SHARE = 0.05
"""Share of the work after which the forecast is checked; before it, start-up dominates."""

FACTOR = 1.5
"""Ratio of measured to forecast time, either way, up to which no message is printed."""

WORTH = 30.0
"""Smallest change of the remaining time, in seconds, that is reported."""


class Pace:
    """Compare a forecast with the measured pace, and correct the remaining time.

    Work has several kinds, such as running a model and reducing codes. The measured pace
    of a kind corrects the remaining time of that kind only, because the pace of a model
    does not predict the pace of the reductions.

    Parameters
    ----------
    forecast
        Forecast seconds of each kind of work.
    progress
        Receives the corrected forecast, at most once.
    clock
        Returns the time in seconds.
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
        """Forecast seconds of all work."""
        return sum(self._forecast.values())

    @property
    def seconds_remaining(self) -> float:
        """Remaining seconds at the measured pace."""
        return sum(map(self._remaining, self._forecast))

    @property
    def title(self) -> str:
        """Remaining time, for the title of a stage; empty until work is measured."""
        if not any(self._done.values()) or self.seconds_remaining < WORTH:
            return ""
        return f" (about {duration(self.seconds_remaining)} remaining in total)"

    def skip(self) -> None:
        """Begin a lap; the time since the last one is not counted as work."""
        self._since = self._clock()

    def lap(self, kind: str, seconds: float) -> None:
        """Record that a piece of work is done.

        Parameters
        ----------
        kind
            Kind of work, as in the forecast. The work took the time since the last lap.
        seconds
            Forecast seconds of this piece.
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
            Kind of work, and forecast seconds of this stage.
        done
            Amount of ``total`` that an earlier run finished.
        """
        with self._progress.stage(f"{title}{self.title}", total=total, unit=unit) as stage:
            stage.advance(done)
            self.skip()
            yield _Timed(stage, self, kind, seconds / (total - done) if total > done else 0.0)
            self.lap(kind, 0.0)  # the time after the last advance

    def _remaining(self, kind: str) -> float:
        rest = max(0.0, self._forecast[kind] - self._done[kind])
        if not self._done[kind]:
            return rest
        return rest * self._spent[kind] / self._done[kind]

    def _correct(self) -> None:
        """Report the corrected time once, if it differs much from the forecast."""
        expected, done = self.forecast, sum(self._done.values())
        if self._corrected or done < SHARE * expected:
            return
        remaining = self.seconds_remaining
        total = sum(self._spent.values()) + remaining
        far = total > FACTOR * expected or FACTOR * total < expected
        if far and abs(remaining - max(0.0, expected - done)) >= WORTH:
            self._corrected = True
            self._progress.report(
                f"At the measured pace, about {duration(remaining)} remain. The forecast was "
                f"{duration(expected)} in total; the corrected forecast is {duration(total)}."
            )


@dataclass(frozen=True)
class _Timed:
    """A stage whose advances are laps of a pace."""

    stage: Stage
    pace: Pace
    kind: str
    seconds: float

    def advance(self, by: float = 1) -> None:
        """Add ``by`` to the finished work."""
        self.stage.advance(by)
        self.pace.lap(self.kind, by * self.seconds)


def duration(seconds: float) -> str:
    """Return a duration in words, rounded to the precision of a forecast.

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
    """Return an unmeasured forecast as a range.

    Examples
    --------
    >>> rough(60)
    'roughly 30 seconds to 3 minutes (not yet measured)'
    """
    return f"roughly {duration(seconds / 2)} to {duration(seconds * 3)} (not yet measured)"
