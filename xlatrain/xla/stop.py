"""A run is asked to stop. Whoever of this host hears it, the parent process or a child, says so in the channel folder
that they share; the replicas agree on the step through the step itself (engine.stopping)."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from types import FrameType

from xlatrain.files import write_once

_ASKED, _BEGUN = "stop.txt", "begun.txt"
_YES, _NO = b"begun", b"never"
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def ask(channel: Path, why: str) -> None:
    """Ask the run to stop. why: who asks, in a word or two; the first to ask is remembered."""
    with contextlib.suppress(FileNotFoundError):  # the run has ended
        write_once(channel / _ASKED, why.encode())


def asked(channel: Path) -> str | None:
    """Who has asked the run to stop, if anybody has."""
    try:
        return (channel / _ASKED).read_text()
    except FileNotFoundError:
        return None


def begin(channel: Path) -> bool:
    """Before the first step of a process: whether it may be taken. False when the parent has decided to end the run
    before it."""
    write_once(channel / _BEGUN, _YES)
    return (channel / _BEGUN).read_bytes() == _YES


def prevent(channel: Path) -> bool:
    """As the parent: see to it that no step is taken. True when none was, so that there is nothing to save."""
    write_once(channel / _BEGUN, _NO)
    return (channel / _BEGUN).read_bytes() == _NO


def hear_signals(channel: Path) -> None:
    """Take the signals that ask for an end as such, in a child: a scheduler may send them to all processes of a run, or
    to those that hold the chips. Call it in the main thread, the only one that may say what a signal does."""

    def hear(number: int, frame: FrameType | None) -> None:
        ask(channel, signal.Signals(number).name)

    for number in SIGNALS:
        signal.signal(number, hear)
