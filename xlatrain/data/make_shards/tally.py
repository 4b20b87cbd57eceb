"""How far a command is: a bar on a terminal, a line every 10 seconds elsewhere. On standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import Progress, Task

from xlatrain.console import OneLine, remaining
from xlatrain.words import counted

EVERY = 10.0  # seconds between lines where there is no terminal


def say(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Tally:
    """Counts what is done of one split. unit: what is counted, one of it."""

    def __init__(self, what: str, total: int, unit: str = "image"):
        self._what, self._total, self._unit, self._done = what, total, unit, 0
        self._started = self._said = time.perf_counter()
        console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(OneLine(console, self._describe), console=console, transient=True)
            self._task = self._bar.add_task(what, total=total)

    def advance(self, images: int) -> None:
        self._done += images
        now = time.perf_counter()
        if self._bar:
            self._bar.update(self._task, completed=self._done)
        elif now - self._said >= EVERY:
            self._said = now
            say(f"{self._what}: {self._done:,} of {counted(self._total, self._unit)}, {self._rate(now)}")

    def _describe(self, task: Task) -> tuple[str, str, str]:
        rate = self._rate(time.perf_counter())
        return f"{self._what}  ", f"{self._done:,}/{self._total:,}  {remaining(task)}{rate}", ""

    def _rate(self, now: float) -> str:
        return f"{self._done / max(now - self._started, 1e-6):,.0f} {self._unit}s/s"

    def __enter__(self) -> Tally:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        if kind is None and self._done:
            now = time.perf_counter()
            done = f"{counted(self._done, self._unit)} in {now - self._started:.1f} s"
            say(f"{self._what}: {done}, {self._rate(now)}")
