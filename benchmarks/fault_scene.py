"""One fault as it is made: a run, a random moment in it, and what it is to end with."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fault_judge import Whole
from fault_run import EVERY, STEPS, Place, Start, WrongError

FAILS, STOPS, AT_ONCE = 15.0, 20.0, 10.0  # seconds in which it ends: after a failure, a signal, a second one
HANGS = 6.0  # engine.stall_after
WHOLE = 120.0  # seconds in which a start of the run comes to its end, however it does
DONE, FAILED, CONFIG, STOPPED = 0, 1, 2, 75


def turn_clock(clock: Path, seconds: int) -> None:
    """Set what fault_clock.c adds to the clock. In place: a file cut short, though written at once again, ends a
    process that reads it just then (SIGBUS)."""
    with clock.open("r+b") as file:
        file.write(struct.pack("q", seconds))


@dataclass
class Scene:
    """One fault. draw: where all chance comes from. said: what was done. waited: seconds from the fault to the end.
    at_once: the run is gone on with though processes of it may live."""

    place: Place
    whole: Whole
    draw: Random
    clock: Path | None
    said: list[str] = field(default_factory=list)
    waited: float | None = None
    at_once: bool = False

    def begin(self, *overrides: str) -> Start:
        return self.place.begin(*overrides)

    def moment(self, start: Start, least: int = 1, saving: bool = False) -> None:
        """Wait for a random moment after a step, at the earliest `least`; saving: for one in a save."""
        step = self.draw.randrange(least, STEPS - EVERY)
        if saving:
            step = max(EVERY, step // EVERY * EVERY)
        until = time.monotonic() + WHOLE
        while self.place.steps_logged() < step and start.poll() is None:
            time.sleep(0.001)
            if time.monotonic() > until:
                raise WrongError(f"step {step} did not come in {WHOLE:.0f} s")
        if not saving:
            time.sleep(self.draw.random() * 0.1)
            self.said.append(f"in step {self.place.steps_logged()}")
            return
        while not list(self.place.checkpoints.glob(".step-*.part")) and start.poll() is None:
            if self.place.steps_logged() > step + EVERY:
                break  # that one was missed; there are others
        time.sleep(self.draw.random() * 0.01)
        writing = bool(list(self.place.checkpoints.glob(".step-*.part")))
        self.said.append(f"in step {self.place.steps_logged()}, {'saving' if writing else 'just saved'}")

    def early(self, start: Start) -> None:
        """Wait for a random moment before the first step: importing, building, compiling."""
        until = time.monotonic() + self.draw.random() * (6.0 if self.place.warm else 14.0)
        while time.monotonic() < until and start.poll() is None and not self.place.steps_logged():
            time.sleep(0.01)
        self.said.append("before the first step" if not self.place.steps_logged() else "in step 1")

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def ends(self, start: Start, within: float, codes: tuple[int, ...], words: str = "") -> int:
        """See that the command ends in so many seconds from now, with one of these exit codes or done, that it says the
        words if it is not, and that all its processes are gone with it."""
        since = time.monotonic()
        code = start.wait(within)
        while self.place.processes() and not self.at_once:
            if time.monotonic() - since > within:
                raise WrongError(f"processes {sorted(self.place.processes())} go on after {within:.0f} s")
            time.sleep(0.02)
        self.waited = time.monotonic() - since
        if code not in (*codes, DONE):
            raise WrongError(f"exit code {code}")
        if code and words not in start.said():
            raise WrongError(f"it does not say {words!r}")
        return code
