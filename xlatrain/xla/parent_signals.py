"""What the parent process of a run makes of signals."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from xlatrain.signals import handled
from xlatrain.xla import stop


class ParentSignals:
    """What the parent does with SIGINT and SIGTERM: of a run that can be stopped the first one asks for it; any other
    ends the children. fatal: the one that did, else 0."""

    def __init__(self, channel: Path, stoppable: bool):
        self._channel, self._left, self.fatal = channel, 1 if stoppable else 0, 0
        self.killing = False
        self._ended = threading.Event()

    def hear(self, number: int, frame: object) -> None:
        if self._left:
            self._left -= 1
            stop.ask(self._channel, signal.Signals(number).name)
            return
        self.fatal = self.fatal or number
        self.kill()

    def kill(self) -> None:
        """End the children, which a pool of processes would wait for for ever, until the run has ended: some may not be
        there yet."""
        if not self.killing:
            self.killing = True
            threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        while not self._ended.wait(0.1):
            for child in multiprocessing.active_children():
                child.kill()

    def end(self) -> None:
        self._ended.set()


@contextlib.contextmanager
def parent_signals(channel: Path, stoppable: bool) -> Iterator[ParentSignals]:
    """Within, signals are heard, where this is the main thread."""
    signals = ParentSignals(channel, stoppable)
    main = threading.current_thread() is threading.main_thread()
    with handled(stop.SIGNALS if main else (), signals.hear):
        try:
            yield signals
        finally:
            signals.end()
