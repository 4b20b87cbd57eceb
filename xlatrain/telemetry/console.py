"""Where the command line prints its tables."""

from __future__ import annotations

from rich.console import Console


def make_console() -> Console:
    """Standard output; wide where it is no terminal, so that a table in a log keeps its rows whole."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 160
    return console
