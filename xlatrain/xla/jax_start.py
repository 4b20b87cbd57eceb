"""Processes of JAX's runtime: started, joined to one run, watched. This file imports jax in the children only."""

from __future__ import annotations

import multiprocessing
import signal
import socket
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from xlatrain.xla.replica_main import Job, enter_process, fail, hear_signals, run_replica

ARRIVAL_SECONDS = 45  # in which all processes of a run have to be there
HEARTBEAT_SECONDS = 30  # without a sign of life, after which a process counts as dead

_KILLED = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Hosts:
    """The machines of a run, on each of which the same command is started. number: of this one. coordinator: host:port
    on machine 0, which all can reach; None where there is but one."""

    count: int = 1
    number: int = 0
    coordinator: str | None = None


ALONE = Hosts()


class ProcessEndedError(Exception):
    """A process of the run ended badly; from_outside: it was killed."""

    def __init__(self, what: str, from_outside: bool):
        super().__init__(what)
        self.from_outside = from_outside


def start(job: Job, processes: int, hosts: Hosts) -> None:
    """Start so many processes on this machine and wait for their end. Raises ProcessEndedError when one ends badly."""
    address = hosts.coordinator or f"127.0.0.1:{free_port()}"
    context, total = multiprocessing.get_context("spawn"), hosts.count * processes
    limits = ARRIVAL_SECONDS, HEARTBEAT_SECONDS
    numbers = range(hosts.number * processes, (hosts.number + 1) * processes)
    running = {n: context.Process(target=_main, args=(job, n, total, processes, address, limits)) for n in numbers}
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


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _main(job: Job, number: int, processes: int, here: int, address: str, limits: tuple[int, int]) -> None:
    """What each process runs: a thread for each of its devices. here: processes of this machine."""
    enter_process(job)
    hear_signals(job)
    try:
        from xlatrain.xla import jax_join, jax_replica

        devices = jax_join.join(job, number, processes, address, *limits)
        hear_signals(job)  # JAX has taken SIGTERM for its own: a notice of preemption, and it goes on
    except BaseException as error:
        fail(job, f"process {number} of {processes}", error)
    threads = [
        threading.Thread(
            target=run_replica, args=(job, lambda i=i: jax_replica.this_replica(job.platform, i, number % here == 0))
        )
        for i in range(devices)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    jax_join.leave()
