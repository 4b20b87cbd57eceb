"""Processes of JAX's runtime: started, joined to one run, watched. This file imports jax in the children only."""

from __future__ import annotations

import multiprocessing
import socket
import threading
from dataclasses import dataclass

from xlatrain.xla.children import run_all
from xlatrain.xla.replica_main import Job, arrive, enter_process, fail, hear_signals, run_replica

ARRIVAL_SECONDS = 45  # in which all processes of a run have to be there
HEARTBEAT_SECONDS = 30  # without a sign of life, after which a process counts as dead


@dataclass(frozen=True)
class Hosts:
    """The machines of a run, on each of which the same command is started. number: of this one. coordinator: host:port
    on machine 0, which all can reach; None where there is but one."""

    count: int = 1
    number: int = 0
    coordinator: str | None = None


ALONE = Hosts()


def start(job: Job, processes: int, hosts: Hosts) -> None:
    """Start so many processes on this machine and wait for their end. Raises ProcessEndedError when one ends badly."""
    address = hosts.coordinator or f"127.0.0.1:{free_port()}"
    context, total = multiprocessing.get_context(job.start_method), hosts.count * processes
    limits = ARRIVAL_SECONDS, HEARTBEAT_SECONDS
    numbers = range(hosts.number * processes, (hosts.number + 1) * processes)
    arguments = total, processes, address, limits
    run_all({n: context.Process(target=_main, args=(job, n, *arguments)) for n in numbers}, total)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _main(job: Job, number: int, processes: int, here: int, address: str, limits: tuple[int, int]) -> None:
    """What each process runs: a thread for each of its devices. here: processes of this machine."""
    arrive(job)
    enter_process(job)
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
