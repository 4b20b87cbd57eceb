"""Signals that are heard for a while."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any


@contextlib.contextmanager
def handled(numbers: Iterable[int], hear: Callable[[int, Any], None]) -> Iterator[None]:
    """Within, these signals are heard; then by whoever heard them before. In the main thread only."""
    before = {number: signal.signal(number, hear) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
