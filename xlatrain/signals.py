"""Signals that are heard for a while, or sent when a parent ends."""

from __future__ import annotations

import contextlib
import ctypes
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextlib.contextmanager
def handled(numbers: Iterable[int], hear: Callable[[int, Any], None]) -> Iterator[None]:
    """Within, these signals are heard; then by whoever heard them before. In the main thread only."""
    before = {number: signal.signal(number, hear) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ask_for_at_end_of_parent(number: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends. Without effect where the kernel
    is not Linux; processes that this one forks do not have it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
