"""What a logger is, and what keeps one that fails, or does not answer, from ending or holding up a run."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

_MOST = 10_000  # lines that a server may be behind
_CLOSING = 30.0  # seconds that a server has to take what is left when the run is done

Numbers = Mapping[str, float]
Say = Callable[[str], None]


def numbers_of(values: Mapping[str, Any]) -> dict[str, float]:
    """What of a line of metrics loggers are told."""
    return {k: v for k, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


class Logger(Protocol):
    def write(self, kind: str, step: int, epoch: float, values: Numbers) -> None:
        """kind: train, eval or event. step: optimizer steps done; epoch: the same in epochs."""

    def flush(self) -> None:
        """See that what was written is on the disk, or on its way."""

    def close(self) -> None:
        """The run is done."""


class Guarded:
    """A logger that is left out, and said to be, once something about it fails. open: makes it."""

    def __init__(self, name: str, open: Callable[[], Logger], say: Say):
        self._name, self._say = name, say
        self._logger: Logger | None = None
        self._attempt(lambda: setattr(self, "_logger", open()))

    def write(self, kind: str, step: int, epoch: float, values: Numbers) -> None:
        self._attempt(lambda: self._logger and self._logger.write(kind, step, epoch, values))

    def flush(self) -> None:
        self._attempt(lambda: self._logger and self._logger.flush())

    def close(self) -> None:
        self._attempt(lambda: self._logger and self._logger.close())

    def _attempt(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # of whatever library
            self._logger = None
            self._say(f"{self._name} is left out from here on: {type(error).__name__}: {' '.join(str(error).split())}")


class Behind:
    """A logger whose server may be slow: told all in a thread of its own, so that no step waits for it."""

    def __init__(self, name: str, open: Callable[[], Logger], say: Say):
        self._name, self._say, self._full = name, say, False
        self._acts: queue.Queue[Callable[[Logger], None] | None] = queue.Queue(_MOST)
        self._thread = threading.Thread(target=self._work, args=(open,), daemon=True, name=f"logger {name}")
        self._thread.start()

    def write(self, kind: str, step: int, epoch: float, values: Numbers) -> None:
        try:
            self._acts.put_nowait(lambda logger: logger.write(kind, step, epoch, values))
        except queue.Full:
            if not self._full:
                self._say(f"{self._name} is {_MOST:,} lines behind: it misses what comes now")
            self._full = True

    def flush(self) -> None:
        """Nothing that could be waited for."""

    def close(self, seconds: float = _CLOSING) -> None:
        with contextlib.suppress(queue.Full):
            self._acts.put(None, timeout=seconds)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._say(f"{self._name} has not taken all after {seconds:g} s: the rest is left out")

    def _work(self, open: Callable[[], Logger]) -> None:
        logger = Guarded(self._name, open, self._say)
        while (act := self._acts.get()) is not None:
            act(logger)
        logger.close()
