"""How far a command is: a bar on a terminal, a line every 10 seconds elsewhere. On standard error."""

from __future__ import annotations

import time

from rich.progress import Task

from xlatrain.console import say
from xlatrain.live_line import LiveLine, remaining
from xlatrain.words import counted

EVERY = 10.0  # seconds between lines where there is no terminal


class Tally(LiveLine):
    """Counts what is done of one split. unit: what is counted, one of it."""

    def __init__(self, what: str, total: int, unit: str = "image"):
        super().__init__(self._describe, total, transient=True)
        self._what, self._total, self._unit, self._done = what, total, unit, 0
        self._started = self._said = time.perf_counter()

    def advance(self, images: int) -> None:
        self._done += images
        now = time.perf_counter()
        if self.live:
            self.update(completed=self._done)
        elif now - self._said >= EVERY:
            self._said = now
            say(f"{self._what}: {self._done:,} of {counted(self._total, self._unit)}, {self._rate(now)}")

    def _describe(self, task: Task) -> tuple[str, str, str]:
        rate = self._rate(time.perf_counter())
        return f"{self._what}  ", f"{self._done:,}/{self._total:,}  {remaining(task)}{rate}", ""

    def _rate(self, now: float) -> str:
        return f"{self._done / max(now - self._started, 1e-6):,.0f} {self._unit}s/s"

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        super().__exit__(kind, *rest)
        if kind is None and self._done:
            now = time.perf_counter()
            done = f"{counted(self._done, self._unit)} in {now - self._started:.1f} s"
            say(f"{self._what}: {done}, {self._rate(now)}")
