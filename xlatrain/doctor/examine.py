"""All checks, side by side, each within a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from xlatrain.config.schema import Config
from xlatrain.doctor.caches import check_caches
from xlatrain.doctor.devices import check_gpu, check_tpu
from xlatrain.doctor.environment import check_threads, check_variables
from xlatrain.doctor.finding import FAILED, OK, UNKNOWN, Finding, Machine
from xlatrain.doctor.holders import check_holders
from xlatrain.doctor.metadata import check_metadata
from xlatrain.doctor.network import check_coordinator, late_coordinator
from xlatrain.doctor.software import check_versions
from xlatrain.doctor.storage import check_reading, check_space, late_data
from xlatrain.errors import in_a_line

SECONDS = 3.0  # for all of them together


@dataclass(frozen=True)
class Check:
    """late: the command that shows why, where the check does not come to an end."""

    name: str
    run: Callable[[Machine, Config], Iterator[Finding]]
    late: Callable[[Config], str] = lambda config: "df -h"  # a file system that is gone is what hangs most


CHECKS = (
    Check("versions", check_versions),
    Check("TPU", check_tpu),
    Check("TPU slice", check_metadata),
    Check("TPU holder", check_holders),
    Check("GPU", check_gpu),
    Check("variables", check_variables),
    Check("cores", check_threads),
    Check("coordinator", check_coordinator, late_coordinator),
    Check("data", check_reading, late_data),
    Check("space", check_space),
    Check("caches", check_caches),
)


def examine(machine: Machine, config: Config, seconds: float = SECONDS) -> dict[str, list[Finding]]:
    """What each check finds, by its name. One that has not ended in time has failed; so no dead network or disk keeps
    anybody waiting."""
    found: dict[str, list[Finding]] = {}

    def run(check: Check) -> None:
        try:
            found[check.name] = list(check.run(machine, config)) or [Finding(OK, "nothing unusual")]
        except Exception as error:  # of this file system or that library: the others go on
            found[check.name] = [Finding(UNKNOWN, f"cannot be seen here: {type(error).__name__}: {in_a_line(error)}")]

    threads = [threading.Thread(target=run, args=(check,), daemon=True) for check in CHECKS]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {seconds:g} s"
    return {check.name: found.get(check.name, [Finding(FAILED, late, check.late(config))]) for check in CHECKS}
