"""Progress of long work: a protocol, a silent implementation and progress bars.

Functions take a ``Progress`` and never print. Bars go to stderr, results to stdout.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from atlas.safe_text import shown

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["SILENT", "Bars", "Progress", "Silent", "Stage"]


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
    """Draw a bar for each stage on stderr, or one plain line if stderr is not a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, markup=False)

    @contextmanager
    def stage(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Stage]:
        """Begin a stage and draw its bar until it ends."""
        from rich import progress as rp

        title = shown(title)
        if not self._console.is_terminal:
            self._console.print(f"{title} …", highlight=False, soft_wrap=True)
            yield _SilentStage()
            return
        with rp.Progress(
            rp.TextColumn("{task.description}", markup=False),
            rp.BarColumn(),
            rp.TextColumn(f"{{task.completed:,.0f}}/{{task.total:,.0f}} {unit}" if total else unit),
            rp.TimeElapsedColumn(),
            rp.TextColumn("remaining"),
            rp.TimeRemainingColumn(),
            console=self._console,
        ) as bars:
            yield _Bar(bars, bars.add_task(title, total=total))

    def report(self, sentence: str) -> None:
        """Print a line above the bars."""
        self._console.print(shown(sentence), highlight=False, soft_wrap=True)
