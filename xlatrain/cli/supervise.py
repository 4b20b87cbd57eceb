"""`xlatrain supervise -- train ...`: starts a run again when it was stopped or crashed, until it is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from xlatrain.cli.verbs import take_flags
from xlatrain.console import say
from xlatrain.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, ConfigError, Fault
from xlatrain.signals import ask_for_at_end_of_parent, handled
from xlatrain.xla.heartbeat import ELSEWHERE, FOLDER, last_step

_TRIES, _WAIT, _LONGEST = 20, 5.0, 300.0  # starts; seconds
_SAME = 3  # crashes at one step that end it: the fourth would be the same


@dataclass(frozen=True)
class Attempt:
    """How a start ended: its exit code, below 0 for a signal, and the step that it was in last."""

    code: int
    step: int

    @property
    def crashed(self) -> bool:
        return self.code not in (EXIT_DONE, EXIT_CONFIG, EXIT_STOPPED)


@dataclass(frozen=True)
class Next:
    """What comes after an attempt. wait: seconds before another one; None ends it, with `code`. why: in words."""

    wait: float | None
    code: int
    why: str


def decide(attempts: Sequence[Attempt], tries: int, wait: float) -> Next:
    """What comes after these attempts. wait: seconds before the second; twice as many after each that got no further
    than the one before."""
    last = attempts[-1]
    if last.code == EXIT_DONE:
        return Next(None, EXIT_DONE, "the run is done")
    if last.code == EXIT_CONFIG:
        return Next(None, EXIT_CONFIG, "the configuration is wrong: another start would find it so again")
    how = "stopped" if last.code == EXIT_STOPPED else f"crashed ({_ending(last.code)})"
    where = f"{how} in step {last.step:,}"
    same = [a for a in attempts[-_SAME:] if a.crashed and a.step == last.step]
    if len(same) == _SAME:
        return Next(None, EXIT_FAILED, f"it has {where} {_SAME} times in a row: what is wrong does not pass by itself")
    if len(attempts) >= tries:
        return Next(None, EXIT_FAILED if last.crashed else EXIT_STOPPED, f"{where}; that was start {tries} of {tries}")
    idle = 0
    for before, after in zip(reversed(attempts[:-1]), reversed(attempts), strict=False):
        if after.step > before.step:
            break
        idle += 1
    pause = min(wait * 2**idle, _LONGEST)
    return Next(pause, last.code, f"{where}; start {len(attempts) + 1} of {tries} in {pause:g} s")


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def supervise(arguments: Sequence[str]) -> int:
    """`xlatrain supervise [--tries=N] [--wait=SECONDS] -- train [overrides]`. Raises ConfigError."""
    own = list(arguments[: arguments.index("--")]) if "--" in arguments else list(arguments)
    command = list(arguments[len(own) + 1 :])
    flags, others = take_flags("supervise", own)
    tries, wait = _number(flags, "--tries", _TRIES), _number(flags, "--wait", _WAIT)
    given = dict(part.split("=", 1) for part in command if "=" in part)
    faults = [Fault(other, "is not one of supervise's flags", "write the run's command after --") for other in others]
    if command[:1] != ["train"] or {"-m", "--multirun"} & set(command):
        cure = "write xlatrain supervise -- train run.name=NAME"
        faults.append(Fault("supervise", "takes one run of `xlatrain train`", cure))
    elif not given.get("run.name"):
        problem = "is open: each start would be a run of its own, and none would go on with another"
        faults.append(Fault("run.name", problem, "give the run a name: run.name=NAME"))
    if faults:
        raise ConfigError(*faults)
    folder = Path(given.get("run.root", "runs")) / given["run.name"]
    return Supervisor([sys.executable, "-m", "xlatrain", *command], folder, int(tries), wait).run()


def _number(flags: dict[str, str], name: str, default: float) -> float:
    try:
        value = float(flags.get(name, default))
        if value >= 1:
            return value
    except ValueError:
        pass
    raise ConfigError(Fault(name, f"{flags[name]!r} is no number from 1 on", f"write {name}={default:g}"))


class Supervisor:
    """Starts a command, again if need be. folder: of the run. A signal is handed on to the command, and ends it all."""

    def __init__(self, command: Sequence[str], folder: Path, tries: int, wait: float):
        self._command, self._folder, self._tries, self._wait = command, folder, tries, wait
        self._child: subprocess.Popen | None = None
        self._signalled: int | None = None
        self._woken = threading.Event()

    def run(self) -> int:
        """Returns the exit code."""
        attempts: list[Attempt] = []
        with (
            handled((signal.SIGINT, signal.SIGTERM), self._hear),
            tempfile.TemporaryDirectory(prefix="xlatrain-heartbeats-") as elsewhere,
        ):
            elsewhere = os.environ.get(ELSEWHERE, elsewhere)
            while True:
                code = self._start(elsewhere)
                if self._signalled:
                    gone = code == -self._signalled  # before it could hear: nothing had begun
                    return EXIT_STOPPED if gone else code if code >= 0 else 128 - code
                step = max(last_step(self._folder / FOLDER), last_step(Path(elsewhere)))
                attempts.append(Attempt(code, step))
                then = decide(attempts, self._tries, self._wait)
                say(f"xlatrain supervise: {then.why}")
                if then.wait is None:
                    return then.code
                if self._woken.wait(then.wait):
                    say("xlatrain supervise: stopped between two starts")
                    return EXIT_STOPPED

    def _start(self, elsewhere: str) -> int:
        """In a group of its own: what a terminal sends to all of one's own would reach it twice, and twice means at
        once. elsewhere: for the heartbeats of a machine that has no folder of the run."""
        environment = {**os.environ, ELSEWHERE: elsewhere}
        self._child = subprocess.Popen(self._command, preexec_fn=_apart, env=environment)
        if self._signalled:
            self._child.send_signal(self._signalled)
        return self._child.wait()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._signalled = number
        self._woken.set()
        if self._child and self._child.poll() is None:
            self._child.send_signal(number)


def _apart() -> None:
    """In the child: a group of its own; and ask it to stop when the supervisor is killed, where the kernel is Linux."""
    os.setpgid(0, 0)
    ask_for_at_end_of_parent(signal.SIGTERM)
