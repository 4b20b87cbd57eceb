"""One line of progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

logger = logging.getLogger("xlatrain")
_BAR = 20  # columns


class _Line(ProgressColumn):
    """A bar where there is room, step, time that remains (at the end, that it took), and what is happening; while it is
    something that takes long, for how many seconds already. One line whatever the width: what is said last is left out
    first."""

    max_refresh = None

    def __init__(self, console: Console):
        super().__init__(Column(no_wrap=True))
        self._console = console

    def render(self, task: Task) -> Text:
        width = self._console.width
        left = task.finished_time if task.finished else task.time_remaining
        parts = [f"step {task.completed:.0f}/{task.total:.0f}"] if task.total else []
        parts += [str(timedelta(seconds=int(left)))] if left is not None else []
        start = "".join(f"{part}  " for part in parts)
        since = task.fields["since"]
        seconds = f" {time.perf_counter() - since:.0f} s" if since else ""
        status = fitted(task.fields["status"], width - len(start) - len(seconds)) + seconds
        line = Text(start) + Text(status, style="cyan")
        return self._bar(task) + line if task.total and len(line) + _BAR + 2 <= width else line

    def _bar(self, task: Task) -> Text:
        done = round(_BAR * task.completed / task.total)
        return Text("━" * done, "bar.complete") + Text("━" * (_BAR - done), "bar.back") + Text("  ")


def fitted(status: str, width: int) -> str:
    """As many of a status's parts, two spaces apart, as a width holds; of a first part that is too long its start."""
    parts = status.split("  ")
    while len(parts) > 1 and len("  ".join(parts)) > width:
        parts.pop()
    line = "  ".join(parts)
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"


class ProgressLine:
    """Shows where a run is: a bar with step, loss, learning rate and images/s, and what is happening right now.

    On a terminal it is one live line; elsewhere each message and each logged step is a line of its own, so that a log
    file reads well. Every message also goes to train.log. A silent one (not the first replica) shows nothing.
    """

    def __init__(self, total_steps: int, silent: bool = False):
        self.console = Console(stderr=True, highlight=False)
        self._silent = silent
        self._live: Progress | None = None
        if not silent and self.console.is_terminal:
            self._live = Progress(_Line(self.console), console=self.console)
            self._task = self._live.add_task("", total=total_steps, status="starting", since=time.perf_counter())
        self._total = total_steps
        self._started = time.perf_counter()

    def say(self, text: str) -> None:
        """Something that happens once: shown and logged."""
        if self._silent:
            return
        logger.info(text)
        if self._live:
            self._live.update(self._task, status=text, since=time.perf_counter())
        else:
            self._print(text)

    def keep(self, text: str) -> None:
        """As say, and it stays on the screen above the live line."""
        if self._silent:
            return
        logger.info(text)
        self._print(text)

    def step(self, done: int, status: str, print_line: bool) -> None:
        """A step is done; print_line: also as a plain line where there is no terminal, and to the log."""
        if self._silent:
            return
        if self._live:
            self._live.update(self._task, completed=done, status=status, since=None)
        if print_line:
            line = f"step {done}/{self._total}  {status}"
            logger.info(line)
            if not self._live:
                self._print(line)

    def _print(self, text: str) -> None:
        if self._live:
            self._live.console.print(text, markup=False)
        else:
            seconds = time.perf_counter() - self._started
            print(f"[{seconds:6.1f} s] {text}", file=sys.stderr, flush=True)  # noqa: T201

    def __enter__(self) -> ProgressLine:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
