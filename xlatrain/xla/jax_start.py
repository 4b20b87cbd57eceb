"""Processes of JAX's runtime: started, joined to one run, watched. This file imports jax in the children only."""

from __future__ import annotations

import multiprocessing
import signal
import socket
import threading
from dataclasses import dataclass
from multiprocessing.connection import wait

from xlatrain.xla.replica_main import Job, enter_process, fail, run_replica

ARRIVAL_SECONDS = 45  # in which all processes of a run have to be there
HEARTBEAT_SECONDS = 30  # without a sign of life, after which a process counts as dead


@dataclass(frozen=True)
class Join:
    """How processes become one run. processes: of the run; first, here: those of them that this machine starts, from
    number `first` on. address: host:port of the coordinator, which lives in process 0; None = on this machine."""

    processes: int = 1
    first: int = 0
    here: int = 1
    address: str | None = None


class ProcessEndedError(Exception):
    """A process of the run ended badly."""


def start(job: Job, join: Join) -> None:
    """Start the processes of this machine and wait for their end. Raises ProcessEndedError when one ends badly."""
    address = join.address or f"127.0.0.1:{_free_port()}"
    context = multiprocessing.get_context("spawn")
    numbers = range(join.first, join.first + join.here)
    limits = ARRIVAL_SECONDS, HEARTBEAT_SECONDS
    running = {n: context.Process(target=_main, args=(job, n, join.processes, address, limits)) for n in numbers}
    for process in running.values():
        process.start()
    while running:
        wait([process.sentinel for process in running.values()])
        for number, process in list(running.items()):
            if process.exitcode is None:
                continue
            del running[number]
            if process.exitcode:
                raise ProcessEndedError(_describe(number, join.processes, process))


def _describe(number: int, processes: int, process: multiprocessing.Process) -> str:
    code = process.exitcode
    how = f"ended with exit code {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
    return f"process {number} of {processes} (pid {process.pid}) {how}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _main(job: Job, number: int, processes: int, address: str, limits: tuple[int, int]) -> None:
    """What each process runs: a thread for each of its devices."""
    enter_process(job)
    try:
        from xlatrain.xla import jax_join, jax_replica

        here = jax_join.join(job, number, processes, address, *limits)
    except BaseException as error:
        fail(job, f"process {number} of {processes}", error)
    threads = [
        threading.Thread(target=run_replica, args=(job, lambda i=i: jax_replica.this_replica(job.platform, i)))
        for i in range(here)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
