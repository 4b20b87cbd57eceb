"""Replicas of torch_xla's runtime: started through xmp.spawn."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from xlatrain.xla.children import run_all
from xlatrain.xla.replica_main import Job, arrive, enter_process, run_replica


@dataclass(frozen=True)
class _Arriving:
    """A job on its way to a process of the pool, whose main thread unpickles it: the only thread that may say what a
    signal does, and replicas run on others."""

    job: Job

    def __reduce__(self) -> tuple[Callable[[Job], Job], tuple[Job]]:
        return _arrive, (self.job,)


def _arrive(job: Job) -> Job:
    arrive(job)
    return job


def start(job: Job) -> None:
    """Start all replicas of this host and wait for their end. Raises BrokenProcessPool or ProcessEndedError when a
    process ends badly."""
    if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
        # A worker of joblib hands its own method, loky, to its children, who do not know it.
        multiprocessing.set_start_method("spawn", force=True)
    if job.late:
        run_all({0: multiprocessing.get_context("forkserver").Process(target=_run_here, args=(job,))}, 1)
    else:
        from torch_xla.distributed import xla_multiprocessing as xmp  # reads the environment, so not before

        xmp.spawn(_main, args=(_Arriving(job),))


def _run_here(job: Job) -> None:
    """As a process that was forked, be the one that xmp.spawn starts on a CPU: a thread for each device. xmp.spawn
    itself would have the parent process import torch_xla, a second and a half in which nothing else goes on."""
    arrive(job)
    from torch_xla._internal import pjrt

    pjrt._run_thread_per_device(0, 1, partial(_main, 0, job), pjrt.initialize_multiprocess)


def _main(index: int, job: Job) -> None:
    """What each replica's thread runs."""
    from xlatrain.xla.torch_xla_replica import this_replica

    enter_process(job)
    run_replica(job, lambda: this_replica(job.platform))
