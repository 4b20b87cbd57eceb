"""One line of progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import time

from rich.progress import Task

from xlatrain.console import stamped_lines
from xlatrain.live_line import LiveLine, remaining

logger = logging.getLogger("xlatrain")


def _describe(task: Task) -> tuple[str, str, str]:
    """Step, or image, and time that remains (at the end, that it took); what is happening; while it is something that
    takes long, for how many seconds already."""
    since = task.fields["since"]
    step = f"{task.fields['unit']} {task.completed:.0f}/{task.total:.0f}  " if task.total else ""
    return step + remaining(task), task.fields["status"], f" {time.perf_counter() - since:.0f} s" if since else ""


class ProgressLine(LiveLine):
    """Shows where a run is: a bar with step, loss, learning rate and images/s, and what is happening right now.

    On a terminal it is one live line; elsewhere each message and each logged step is a line of its own, so that a log
    file reads well. Every message also goes to train.log. A silent one (not the first replica) shows nothing.
    """

    def __init__(self, total: int, silent: bool = False, unit: str = "step"):
        fields = {"status": "starting", "since": time.perf_counter(), "unit": unit}
        super().__init__(_describe, total, silent=silent, **fields)
        self._silent, self._total, self._unit = silent, total, unit
        self._print = self.print_above if self.live else stamped_lines()

    def say(self, text: str) -> None:
        """Something that happens once: shown and logged."""
        if self._silent:
            return
        logger.info(text)
        if self.live:
            self.update(status=text, since=time.perf_counter())
        else:
            self._print(text)

    def keep(self, text: str) -> None:
        """As say, and it stays on the screen above the live line."""
        if self._silent:
            return
        logger.info(text)
        self._print(text)

    def step(self, done: int, status: str, print_line: bool) -> None:
        """So many steps, or images, are done; print_line: also as a plain line where there is no terminal, and to the
        log."""
        if self._silent:
            return
        if self.live:
            self.update(completed=done, status=status, since=None)
        if print_line:
            line = f"{self._unit} {done}/{self._total}  {status}"
            logger.info(line)
            if not self.live:
                self._print(line)
