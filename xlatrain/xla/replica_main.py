"""What each replica of a run runs: a named function, its result to the parent process, and its end when it fails."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xlatrain.errors import SPOKEN
from xlatrain.files import write_once
from xlatrain.words import counted
from xlatrain.xla import fork_server, pulse, stacks, stop
from xlatrain.xla.replica import Replica
from xlatrain.xla.temporary import clear_left_behind

GROUP = "group-"  # begins the name of a file that names a process group of the run


@dataclass(frozen=True)
class Watch:
    """How a run is watched over. heartbeats: the folder that its processes write theirs to. stall_after: seconds
    without a step after which it hangs, None = never. stoppable: its replicas stop when they are asked to."""

    heartbeats: Path
    stall_after: float | None
    stoppable: bool


@dataclass(frozen=True)
class Job:
    """What replicas run: `target`, "package.module:name", as f(replica, *args). Picklable. channel: the folder that the
    parent process and its children have in common. watch: None = nobody watches. cache_bytes: how much jax keeps of
    what it compiled, None = all. late: variables of processes that are forked (fork_server); none where they are
    spawned."""

    target: str
    args: tuple[Any, ...]
    platform: str
    replicas: int
    channel: Path
    watch: Watch | None = None
    cache_bytes: int | None = None
    late: dict[str, str] = field(default_factory=dict)

    @property
    def start_method(self) -> str:
        """How its processes start, by multiprocessing's name."""
        return "forkserver" if self.late else "spawn"

    @property
    def result(self) -> Path:
        """Where what the first replica returned lies, pickled."""
        return self.channel / "result.pickle"

    @property
    def failure(self) -> Path:
        """Where what is to be said of the replica that failed first lies."""
        return self.channel / "failure.txt"


def run_replica(job: Job, who: Callable[[], Replica]) -> None:
    """Run the job as the replica that the calling thread is. Ends the process when it fails."""
    name = "a replica"
    try:
        replica = who()
        name = f"replica {replica.ordinal}"
        if replica.world_size != job.replicas:
            seen = counted(replica.world_size, "device")
            raise RuntimeError(f"cluster.replicas={job.replicas}, but the runtime sees {seen}")
        module, _, function = job.target.partition(":")
        result = getattr(importlib.import_module(module), function)(replica, *job.args)
        result = replica.agree(result)  # nobody leaves while another may still fail
        if replica.local_ordinal == 0:
            pulse.beat()  # the last one says where the process ended
            write_once(job.result, pickle.dumps(result))
    except BaseException as error:
        fail(job, name, error)


def fail(job: Job, name: str, error: BaseException) -> None:
    """Tell the parent process what failed, if nobody has yet, and end this process at once. The others, waiting in a
    collective for a replica that is gone, would otherwise sit there until XLA aborts and hides the cause."""
    words = f" {error}" if isinstance(error, SPOKEN) else f"\n{traceback.format_exc()}"
    first = write_once(job.failure, f"{name} failed:{words}".encode(errors="backslashreplace"))
    if not first:
        time.sleep(5)  # another replica failed first and ends the process
    pulse.beat()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(1)


def enter_process(job: Job) -> None:
    """Make this process one of the run: the head of a group of its own, to which its loader's workers belong, so that
    they end with it; and mortal, so that no orphan keeps the devices. Once is enough, more do no harm."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    mark = job.channel / f"{GROUP}{os.getpid()}"
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return
    threading.Thread(target=_die_with, args=(job,), daemon=True).start()
    stacks.ready(job.channel)
    if job.watch:
        pulse.start(job.channel, job.watch.heartbeats)


def arrive(job: Job) -> None:
    """Have this process begin as it should, however it was started, and hear signals. In its main thread, before it
    touches a device."""
    fork_server.arrive(job.late)
    hear_signals(job)


def hear_signals(job: Job) -> None:
    """Have this process, if its run can be stopped, take signals that ask it to as such. In its main thread."""
    if job.watch and job.watch.stoppable:
        stop.hear_signals(job.channel)


def _die_with(job: Job) -> None:
    """End this process when its parent is gone, so that no temporary files stay either."""
    multiprocessing.parent_process().join()
    time.sleep(1)  # the system closes its files one by one, and the lock of its folder may come last
    try:
        clear_left_behind(job.channel.parent.parent)
    finally:
        os.killpg(os.getpgrp(), signal.SIGKILL)
