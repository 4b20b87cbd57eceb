"""Where the command line prints its tables, and its lines of progress."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable

from rich.console import Console


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
