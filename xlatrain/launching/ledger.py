"""What machines have cost, by the cluster's prices, written down so that it outlives whoever launched them."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xlatrain.credentials import masked
from xlatrain.errors import ConfigError, Fault
from xlatrain.files import write_json

FILE = "launch.json"  # of a run's folder
_LOCK = ".launch.lock"  # beside it, held by a command that asks for machines or has them run


@dataclass
class Machine:
    """A slice that was there. since, until: seconds of the epoch, until None while it is; seen: when it was last."""

    name: str
    accelerator_type: str
    capacity: str
    usd_per_hour: float | None
    since: float
    seen: float
    until: float | None = None

    def hours(self, now: float) -> float:
        return max(0.0, (now if self.until is None else self.until) - self.since) / 3600


@dataclass
class Ledger:
    """Of a run: all machines that it had, and how many were asked for. overrides: of the command that launched it.
    asked: the machines of that name were asked for from here, so they are not another's. kept: it is written; not by a
    command that only looks while another one has it."""

    path: Path
    overrides: list[str] = field(default_factory=list)
    machines: list[Machine] = field(default_factory=list)
    tries: int = 0
    status: str = "launched"
    asked: bool = False
    kept: bool = True

    @property
    def open(self) -> Machine | None:
        """The machine that is there now."""
        return self.machines[-1] if self.machines and self.machines[-1].until is None else None

    def spent(self, now: float) -> float | None:
        """USD so far; None where no price is known."""
        rates = [(machine.usd_per_hour, machine.hours(now)) for machine in self.machines]
        return None if any(rate is None for rate, _ in rates) else sum(rate * hours for rate, hours in rates)

    def hours(self, now: float) -> float:
        return sum(machine.hours(now) for machine in self.machines)

    def begin(self, machine: Machine) -> None:
        self.machines.append(machine)

    def see(self, now: float) -> None:
        if self.open:
            self.open.seen = now

    def end(self, now: float) -> None:
        """The machine is gone, as far as it was there at all."""
        if self.open:
            self.open.until = now

    def close(self, status: str, now: float) -> None:
        """Write down how a command has ended."""
        self.status = status
        with contextlib.suppress(OSError):
            self.write(now)

    def write(self, now: float) -> None:
        """Raises OSError."""
        if not self.kept:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        spent = self.spent(now)
        write_json(
            self.path,
            {
                "status": self.status,
                "usd": None if spent is None else round(spent, 2),
                "hours": round(self.hours(now), 4),
                "tries": self.tries,
                "asked": self.asked,
                "overrides": masked(self.overrides),
                "machines": [asdict(machine) for machine in self.machines],
            },
        )


def open_ledger(path: Path, overrides: Sequence[str] | None) -> Ledger:
    """That of earlier commands for the run, if any, to be gone on with: what was spent stays spent. overrides: None
    of a command that only looks, which leaves those that are there. Raises ConfigError where it cannot be read, and is
    to be gone on with."""
    try:
        said: dict[str, Any] = json.loads(path.read_text())
        machines = [Machine(**machine) for machine in said.get("machines", ())]
        ledger = Ledger(path, [*said["overrides"]], machines, int(said.get("tries", 0)), asked=said.get("asked", False))
    except FileNotFoundError:
        return Ledger(path, [*(overrides or ())], kept=overrides is not None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        if overrides is None:
            return Ledger(path, kept=False)
        problem = f"{path} cannot be read: what was spent so far is not known"
        raise ConfigError(Fault("launch", problem, "mend it, or remove it to begin with nothing spent")) from None
    if overrides is None:
        ledger.status = said.get("status", ledger.status)
    else:
        ledger.overrides = [*overrides]
    return ledger


@contextlib.contextmanager
def held(path: Path, begins: bool) -> Iterator[bool]:
    """Within, no other command that asks for machines, or has them run, has the ledger. begins: of such a command;
    another one is told whether nobody has it. Raises ConfigError where somebody has, or it cannot be written."""
    if not begins and not path.exists():
        yield True
        return
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context((path.parent / _LOCK).open("w")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
            if begins:
                cure = "wait for it, or end it by Ctrl-C where it was given"
                raise ConfigError(Fault("launch.name", f"a launch in {path.parent} is going on", cure)) from None
        except OSError as error:
            free = False
            if begins:
                problem = f"{path.parent} cannot be written: {error.strerror}: what is spent would be forgotten"
                raise ConfigError(Fault("run.root", problem, "name a folder of yours")) from None
        yield free


def overrides_of(path: Path) -> list[str]:
    """Those of the command that launched a run; none where nobody knows."""
    try:
        return [str(word) for word in json.loads(path.read_text())["overrides"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
