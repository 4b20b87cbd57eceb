"""Start the replicas, watch over them, and end them all when one fails.

The parent process never touches an XLA device: it sets the environment, spawns, waits. A replica that raises writes its
traceback to a file that the parent prints last, and ends its process at once (replica_main).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from xlatrain.errors import ReplicaError, StoppedError
from xlatrain.xla import fork_server, jax_start, notices, stop, torch_xla_start
from xlatrain.xla.children import ProcessEndedError
from xlatrain.xla.jax_start import ALONE, Hosts
from xlatrain.xla.oversee import Overseer
from xlatrain.xla.parent_signals import parent_signals
from xlatrain.xla.replica_main import GROUP, Job, Watch
from xlatrain.xla.temporary import read_own, temporary_files

# What torch_xla needs where it only traces: one device, of the CPU.
_TRACING = {"PJRT_DEVICE": "CPU", "CPU_NUM_DEVICES": "1"}


def launch(
    target: str,
    *args: Any,
    platform: str = "cpu",
    replicas: int = 1,
    environment: Mapping[str, str] | None = None,
    runtime: str = "torch_xla",
    processes: int = 1,
    hosts: Hosts = ALONE,
    watch: Watch | None = None,
    cache_bytes: int | None = None,
) -> Any:
    """Run the function `target`, "package.module:name", as f(replica, *args) on every replica; return what the first
    one returned. It is named, not passed, so that the parent need not import what touches a device.

    platform: "cpu" runs `replicas` replicas as threads of one child process, with real collectives between them; "tpu"
    uses all chips of this host, one process per chip; "gpu", by jax alone, all its GPUs in one process. args must be
    picklable. environment: further variables for the children. runtime: "torch_xla", or "jax", an extra, whose replicas
    are threads, on a CPU of so many `processes` on each of the `hosts`, where the same is launched. Of several
    processes the function returns plain values (xla/message.py). watch: have the run watched over (oversee).
    cache_bytes: how much jax keeps of what it compiled, the last used; None = all.
    Raises ReplicaError, with the traceback of the replica that failed first, or the one line that says it all, within
    seconds of the failure; StoppedError when a run that can be stopped was, before its first step.
    """
    with (
        temporary_files() as folder,
        tempfile.TemporaryDirectory(prefix="xlatrain-", dir=folder) as channel,
        _environment(platform, replicas, {**(_TRACING if runtime == "jax" else {}), **(environment or {})}),
        parent_signals(Path(channel), watch is not None and watch.stoppable) as signals,
    ):
        late = fork_server.late() if platform == "cpu" and fork_server.is_fit() else {}
        job = Job(target, args, platform, replicas, Path(channel), watch, cache_bytes, late)
        problem: BaseException | None = None
        with contextlib.ExitStack() as stack:
            overseer = stack.enter_context(Overseer(job, hosts.count == 1, signals.kill)) if watch else None
            if watch and watch.stoppable:
                stack.enter_context(notices.polled(lambda why: stop.ask(job.channel, why)))
            try:
                if not signals.killing:
                    if runtime == "jax":
                        jax_start.start(job, processes, hosts)
                    else:
                        torch_xla_start.start(job)
            except (BrokenProcessPool, ProcessEndedError, KeyboardInterrupt) as error:
                problem = error
            finally:
                _end_groups(job)
        if signals.fatal:
            raise ReplicaError(f"stopped by signal {signals.fatal}", 128 + signals.fatal)
        if overseer and overseer.unbegun:
            why = stop.asked(job.channel) or "a request"
            raise StoppedError(f"stopped by {why} before it took a step: there was nothing to save", why)
        if overseer and overseer.stalled:
            raise ReplicaError(overseer.stalled, stacks=overseer.stacks)
        if problem:
            stacks = overseer.left_stacks() if overseer else ""
            raise ReplicaError(_failure_report(job, problem, overseer), stacks=stacks)
        return pickle.loads(read_own(job.result))


def _failure_report(job: Job, error: BaseException, overseer: Overseer | None) -> str:
    if isinstance(error, ProcessEndedError) and error.from_outside:  # what others say is what came of it
        return f"{error}. The system does so when memory runs out."
    if job.failure.exists():
        return job.failure.read_text()
    behind = f"\n{overseer.behind()}" if overseer else ""
    return (
        f"a process of replicas ended without a Python error ({error}). What it printed last is above. On one CPU "
        "XLA aborts the run when a replica keeps the others waiting in a collective for 10 s (by jax, longer): a "
        "smaller model, image or batch, or fewer replicas, shortens the step. A process killed for its memory ends "
        f"like this too.{behind}"
    )


def _end_groups(job: Job) -> None:
    """Kill what is left of the processes of this run, however they ended."""
    for path in job.channel.glob(f"{GROUP}*"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(path.name.removeprefix(GROUP)), signal.SIGKILL)


@contextlib.contextmanager
def _environment(platform: str, replicas: int, more: Mapping[str, str]) -> Iterator[None]:
    """The environment that the children read when they import torch_xla; the parent's own is put back after."""
    changes = {"PJRT_DEVICE": platform.upper()}
    if platform == "cpu":
        threads = str(max(64, 8 * replicas))
        # torch_xla's executor has as many threads as cores, and a collective that waits holds one of them.
        changes |= {
            "CPU_NUM_DEVICES": str(replicas),
            "XLA_THREAD_POOL_SIZE": threads,
            "PJRT_NPROC": threads,
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
        }
    changes |= more
    before = dict(os.environ)  # all of it: torch_xla changes more when it is imported
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
