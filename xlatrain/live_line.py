"""The line of progress of a terminal: one line, whatever the terminal's width."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

Describe = Callable[[Task], tuple[str, str, str]]
Line = TypeVar("Line", bound="LiveLine")


class LiveLine:
    """How far something is, on one line of standard error that is drawn anew. It is `live` on a terminal only, unless
    it is silent; elsewhere it shows nothing, and who has something to say writes lines of his own.

    describe: as of OneLine. fields: what the task knows at first. transient: the line goes when it ends.
    """

    def __init__(self, describe: Describe, total: int, *, silent: bool = False, transient: bool = False, **fields: Any):
        console = Console(stderr=True, highlight=False)
        self._live: Progress | None = None
        if console.is_terminal and not silent:
            self._live = Progress(OneLine(console, describe), console=console, transient=transient)
            self._task = self._live.add_task("", total=total, **fields)

    @property
    def live(self) -> bool:
        return self._live is not None

    def update(self, **fields: Any) -> None:
        """What the task knows now, as `completed`."""
        self._live.update(self._task, **fields)

    def print_above(self, text: str) -> None:
        """A line that stays."""
        self._live.console.print(text, markup=False)

    def __enter__(self: Line) -> Line:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()


class OneLine(ProgressColumn):
    """All that a live display shows, on one line whatever the width of the terminal; before it a bar where there is
    room.

    describe: of a task the start of the line, what goes on, and the end. Of what goes on, parts two spaces apart, the
    last are left out where there is no room.
    """

    max_refresh = None
    bar = 20  # columns

    def __init__(self, console: Console, describe: Describe):
        super().__init__(Column(no_wrap=True))
        self._console, self._describe = console, describe

    def render(self, task: Task) -> Text:
        width = self._console.width
        start, status, end = self._describe(task)
        line = Text(start) + Text(fitted(status, width - len(start) - len(end)) + end, style="cyan")
        if not task.total or self.bar + 2 + len(line) > width:
            return line
        done = round(self.bar * task.completed / task.total)
        return Text("━" * done, "bar.complete") + Text("━" * (self.bar - done), "bar.back") + Text("  ") + line


def remaining(task: Task) -> str:
    """The time until a task is done, or that it took, with two spaces after it; "" where nothing is known yet."""
    seconds = task.finished_time if task.finished else task.time_remaining
    return "" if seconds is None else f"{timedelta(seconds=int(seconds))}  "


def fitted(status: str, width: int) -> str:
    """As many of a status's parts, two spaces apart, as a width holds; of a first part that is too long its start."""
    parts = status.split("  ")
    while len(parts) > 1 and len("  ".join(parts)) > width:
        parts.pop()
    line = "  ".join(parts)
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"
