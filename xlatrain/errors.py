"""What can go wrong, as types: the command line turns each into its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

EXIT_DONE, EXIT_FAILED, EXIT_CONFIG = 0, 1, 2
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: what can be done again later


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a configuration: where, what was found, and what cures it."""

    key: str
    problem: str
    cure: str

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}\n    cure: {self.cure}"


class ConfigError(Exception):
    """The configuration is wrong. Carries every fault found, so that one run reports them all. Exit code 2."""

    def __init__(self, *faults: Fault, usable: Sequence[str] = ()):
        super().__init__("\n".join(str(f) for f in faults))
        self.faults, self.usable = faults, usable


class DataError(Exception):
    """A sample cannot be read or decoded; the message names the shard and the key of the sample."""


def bad_sample(shard: str, key: str, problem: object) -> DataError:
    return DataError(f"sample {key!r} of shard {shard}: {problem}")


def in_a_line(error: BaseException) -> str:
    """What an exception of a library says, in one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


class ReplicaError(Exception):
    """A replica failed and the run was ended. `report` holds its own traceback as text; `stacks`, where they were
    taken, those of all threads of all processes. Exit code 1."""

    def __init__(self, report: str, exit_code: int = EXIT_FAILED, stacks: str = ""):
        super().__init__(report)
        self.report, self.exit_code, self.stacks = report, exit_code, stacks


class StoppedError(ReplicaError):
    """A run ended early since it was asked to, and can go on. why: who asked, as in SIGTERM. summary: of what was done
    until then. Exit code 75."""

    def __init__(self, report: str, why: str, summary: dict[str, Any] | None = None):
        super().__init__(report, EXIT_STOPPED)
        self.why, self.summary = why, summary or {}


class CaptureError(RuntimeError):
    """A step function does something that a captured program cannot hold; the message names it."""


class DivergenceError(RuntimeError):
    """Training cannot go on: gradients stayed non-finite, or replicas do not hold the same weights."""


class CheckpointError(RuntimeError):
    """A run cannot go on from its checkpoint; the message says why, and what to do."""


# Their message says what to mend; where in the code it was raised helps nobody.
SPOKEN = (DataError, DivergenceError, CheckpointError)
