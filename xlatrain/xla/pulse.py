"""How far the replicas of this process are, and whether it is asked to stop: they mark and read it at no cost, and one
thread writes it down, and looks for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from xlatrain.xla import heartbeat, stop
from xlatrain.xla.heartbeat import COMPILING, SAVING, STEP, Whereabouts

_LOOK, _BEAT = 0.2, 1.0  # seconds between two looks for a request to stop, and between two heartbeats


@dataclass
class _Pulse:
    channel: Path | None = None
    folder: Path | None = None
    asked: str | None = None


_places: dict[int, Whereabouts] = {}
_pulse = _Pulse()


def start(channel: Path, folder: Path) -> None:
    """Begin to look for requests to stop in the channel folder, and to write heartbeats to another, if it is there: a
    machine that has no folder of the run has none to write to."""
    _pulse.channel, _pulse.folder = channel, folder
    threading.Thread(target=_watch, args=(channel,), daemon=True, name="pulse").start()


def _watch(channel: Path) -> None:
    written = 0.0
    while True:
        if _pulse.asked is None:
            _pulse.asked = stop.asked(channel)
        if time.monotonic() - written >= _BEAT:
            written = time.monotonic()
            beat()
        time.sleep(_LOOK)


def beat() -> None:
    """Write a heartbeat now; the thread does, once a second."""
    if _pulse.folder:
        with contextlib.suppress(OSError):  # a full disk is no reason to end
            heartbeat.write(_pulse.folder, heartbeat.own(dict(_places), time.time()))


def mark(ordinal: int, phase: str, step: int, batch: int = 0) -> None:
    """A replica is here now."""
    _places[ordinal] = Whereabouts(phase, step, batch, time.time(), threading.get_ident())


@contextlib.contextmanager
def compiling(ordinal: int) -> Iterator[None]:
    """Within, a replica compiles; then it goes on with what it did."""
    before = _places.get(ordinal, Whereabouts())
    mark(ordinal, COMPILING, before.step)
    yield
    _places[ordinal] = replace(before, since=time.time(), thread=threading.get_ident())


@contextlib.contextmanager
def saving(ordinal: int, step: int) -> Iterator[None]:
    """Within, a replica saves after so many steps; what comes after it may hang, and has not as long."""
    mark(ordinal, SAVING, step)
    yield
    mark(ordinal, STEP, step)


def stop_asked() -> str | None:
    """Who has asked this host's part of the run to stop, if anybody has."""
    return _pulse.asked


def begin() -> bool:
    """Before the first step: whether it may be taken (stop.begin)."""
    return _pulse.channel is None or stop.begin(_pulse.channel)
