"""Where the command line prints its tables, and its lines of progress, each whole on a terminal of any width."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable
from datetime import timedelta

from rich.cells import cell_len
from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.table import Column, Table
from rich.text import Text


def make_console() -> Console:
    """Standard output; wide where it is no terminal, so that a table in a log keeps its rows whole."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 160
    return console


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Text as lines of at most a width, but for a word that is longer: names are never cut. indent: of all lines but
    the first."""
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def stamped_lines() -> Callable[[str], None]:
    """A function that writes lines to standard error, each with the seconds since this call."""
    started = time.perf_counter()

    def say(text: str) -> None:
        sys.stderr.write(f"[{time.perf_counter() - started:6.1f} s] {text}\n")

    return say


def print_whole(table: Table, console: Console) -> None:
    """Print a table with no word cut: of columns that find no room the last are left out, and named. Only columns that
    overflow by folding are wrapped."""
    for column in table.columns:
        column.no_wrap = column.overflow != "fold"
    left_out: list[str] = []
    while len(table.columns) > 1 and sum(map(_least, table.columns)) + 2 * (len(table.columns) - 1) > console.width:
        left_out.insert(0, str(table.columns.pop().header))
    console.print(table)
    if left_out:
        console.print(f"  a wider terminal also shows {', '.join(left_out)}", style="dim", markup=False)


def _least(column: Column) -> int:
    """The width below which a column would be cut."""
    cells = [str(column.header), *map(str, column.cells)]
    return max(cell_len(word) for cell in cells for word in ([cell] if column.no_wrap else cell.split() or [""]))


class OneLine(ProgressColumn):
    """All that a live display shows, on one line whatever the width of the terminal; before it a bar where there is
    room.

    describe: of a task the start of the line, what goes on, and the end. Of what goes on, parts two spaces apart, the
    last are left out where there is no room.
    """

    max_refresh = None
    bar = 20  # columns

    def __init__(self, console: Console, describe: Callable[[Task], tuple[str, str, str]]):
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
