"""How long work tells how far it is: a protocol, a silent one and one that draws bars.

Work takes a ``Progress`` and never prints. Bars go to stderr, results to stdout.
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
    """One stretch of work under way."""

    def advance(self, by: float = 1) -> None:
        """Say that this much more is done."""


class Progress(Protocol):
    """Tells how far work is."""

    def stage(
        self, title: str, *, total: float | None = None, unit: str = ""
    ) -> AbstractContextManager[Stage]:
        """Begin a stretch of work of a known length, or an unknown one (None)."""

    def report(self, sentence: str) -> None:
        """Tell something worth knowing, such as an estimate before work."""


class _SilentStage:
    def advance(self, by: float = 1) -> None:
        pass


class Silent:
    """Says nothing."""

    @contextmanager
    def stage(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Stage]:
        """Begin a stretch of work."""
        yield _SilentStage()

    def report(self, sentence: str) -> None:
        """Tell nobody."""


SILENT = Silent()


@dataclass(frozen=True)
class _Bar:
    bars: "RichProgress"
    task: "TaskID"

    def advance(self, by: float = 1) -> None:
        self.bars.advance(self.task, by)


class Bars:
    """Draws a bar for each stage on stderr; one plain line where stderr is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, markup=False)

    @contextmanager
    def stage(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Stage]:
        """Begin a stretch of work and draw its bar until it ends."""
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
            rp.TextColumn("left"),
            rp.TimeRemainingColumn(),
            console=self._console,
        ) as bars:
            yield _Bar(bars, bars.add_task(title, total=total))

    def report(self, sentence: str) -> None:
        """Print a line above the bars."""
        self._console.print(shown(sentence), highlight=False, soft_wrap=True)
