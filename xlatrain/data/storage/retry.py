"""How often and how patiently remote data is asked for again."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xlatrain.errors import DataError
from xlatrain.words import counted

MIB = 2**20
LONGEST_WAIT = 30.0  # seconds between two attempts
FINAL = (FileNotFoundError, PermissionError)  # another attempt would find the same

_log = logging.getLogger("xlatrain")
_jitter = random.SystemRandom()  # not the seeded generator that the training draws from
_count_lock, _count = threading.Lock(), 0


@dataclass(frozen=True)
class ReadOptions:
    """retries: in a row without a byte in between. wait: seconds before the first, doubled for each, 30 at most.
    read_ahead: bytes held before their use. cache: folder for whole objects, at most cache_bytes large."""

    retries: int = 8
    wait: float = 0.5
    read_ahead: int = 8 * MIB
    cache: str | None = None
    cache_bytes: int | None = None


DEFAULTS = ReadOptions()


def retries_so_far() -> int:
    """How often this process, and the workers it has heard from, went on after an error."""
    return _count


def count_retries(more: int) -> None:
    """Add retries, also those of another process."""
    global _count
    with _count_lock:
        _count += more


class Patience:
    """Counts the errors in a row over one url and waits after each."""

    def __init__(self, url: str, options: ReadOptions, pause: Callable[[float], bool | None] = time.sleep):
        self._url, self._options, self._pause, self._failed = url, options, pause, 0

    def progress(self) -> None:
        self._failed = 0

    def after(self, error: Exception, byte: int) -> bool | None:
        """Wait before the next attempt; gives what `pause` gives. Raises DataError when there were too many."""
        cause = f"{type(error).__name__}: {str(error) or error.__cause__}"  # fsspec's timeouts say nothing themselves
        if self._failed >= self._options.retries:
            raise DataError(
                f"{self._url} cannot be read from byte {byte}, also after {counted(self._failed, 'retry')}: {cause}"
            ) from error
        delay = min(LONGEST_WAIT, self._options.wait * 2 ** min(self._failed, 20)) * _jitter.uniform(0.5, 1.0)
        self._failed += 1
        count_retries(1)
        attempt = f"retry {self._failed} of {self._options.retries} in {delay:.1f} s"
        _log.warning("%s broke at byte %d (%s); %s", self._url, byte, cause, attempt)
        return self._pause(delay)

    def call(self, ask: Callable[[], Any]) -> Any:
        """The answer to one request, asked again after errors."""
        while True:
            try:
                return ask()
            except FINAL:
                raise
            except Exception as error:
                self.after(error, 0)
