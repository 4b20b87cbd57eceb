"""What machines have cost, by the cluster's prices, written down so that it outlives whoever launched them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xlatrain.credentials import masked
from xlatrain.files import write_json

FILE = "launch.json"  # of a run's folder


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
    """Of a run: all machines that it had, and how many were asked for. overrides: of the command."""

    path: Path
    overrides: list[str] = field(default_factory=list)
    machines: list[Machine] = field(default_factory=list)
    tries: int = 0
    status: str = "launched"

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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        spent = self.spent(now)
        write_json(
            self.path,
            {
                "status": self.status,
                "usd": None if spent is None else round(spent, 2),
                "hours": round(self.hours(now), 4),
                "tries": self.tries,
                "overrides": masked(self.overrides),
                "machines": [asdict(machine) for machine in self.machines],
            },
        )


def open_ledger(path: Path, overrides: Sequence[str]) -> Ledger:
    """That of earlier commands for the run, if any, to be gone on with: what was spent stays spent."""
    try:
        said: dict[str, Any] = json.loads(path.read_text())
        machines = [Machine(**machine) for machine in said["machines"]]
        return Ledger(path, list(overrides), machines, said["tries"])
    except (OSError, ValueError, KeyError, TypeError):
        return Ledger(path, list(overrides))


def overrides_of(path: Path) -> list[str]:
    """Those of the command that launched a run; none where nobody knows."""
    try:
        return list(json.loads(path.read_text())["overrides"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
