"""Where the command line prints its tables, whole on a terminal of any width, and says its lines."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table


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


def say(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say_first(lines: Sequence[str], most: int = 20) -> None:
    """The first of several lines, indented, and how many more there are."""
    for line in lines[:most]:
        say(f"  {line}")
    if len(lines) > most:
        say(f"  and {len(lines) - most:,} more")


def stamped_lines() -> Callable[[str], None]:
    """A function that writes lines to standard error, each with the seconds since this call."""
    started = time.perf_counter()
    return lambda text: say(f"[{time.perf_counter() - started:6.1f} s] {text}")


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
