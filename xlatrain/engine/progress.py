"""One line of progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import Progress, Task

from xlatrain.console import OneLine, remaining

logger = logging.getLogger("xlatrain")


def _describe(task: Task) -> tuple[str, str, str]:
    """Step and time that remains (at the end, that it took); what is happening; while it is something that takes long,
    for how many seconds already."""
    since = task.fields["since"]
    step = f"step {task.completed:.0f}/{task.total:.0f}  " if task.total else ""
    return step + remaining(task), task.fields["status"], f" {time.perf_counter() - since:.0f} s" if since else ""


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
            self._live = Progress(OneLine(self.console, _describe), console=self.console)
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
