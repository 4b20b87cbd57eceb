"""Processes of replicas, as the one that starts them sees them: begun together, ended together."""

from __future__ import annotations

import signal
from collections.abc import Collection, Mapping
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

_KILLED = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class ProcessEndedError(Exception):
    """A process of the run ended badly; from_outside: it was killed."""

    def __init__(self, what: str, from_outside: bool):
        super().__init__(what)
        self.from_outside = from_outside


def run_all(processes: Mapping[int, BaseProcess], total: int) -> None:
    """Start processes, by their numbers among all `total` of the run, and wait for their end. Raises ProcessEndedError
    when one ends badly; the others are killed then."""
    running = dict(processes)
    for process in running.values():
        process.start()
    try:
        while running:
            wait([process.sentinel for process in running.values()])
            ended = {n: process for n, process in running.items() if process.exitcode is not None}
            if failed := {n: process for n, process in ended.items() if process.exitcode}:
                raise _why(failed, running.keys() - ended.keys(), total)
            for number in ended:
                del running[number]
    finally:
        for process in running.values():
            process.kill()
            process.join()


def _why(failed: Mapping[int, BaseProcess], left: Collection[int], total: int) -> ProcessEndedError:
    """One that was killed comes before those that failed for it. One that hangs is among those that are left, when JAX
    aborts the others since it gives no sign of life."""
    number, process = min(failed.items(), key=lambda item: -item[1].exitcode not in _KILLED)
    code = process.exitcode
    how = f"ended with exit code {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
    if code == -signal.SIGABRT and left:
        how += f", and {', '.join(map(str, left))} did not end"
    return ProcessEndedError(f"process {number} of {total}, pid {process.pid}, {how}", -code in _KILLED)
