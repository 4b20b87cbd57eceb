"""Replicas of torch_xla's runtime: started through xmp.spawn."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass

from xlatrain.xla.replica_main import Job, enter_process, hear_signals, run_replica


@dataclass(frozen=True)
class _Arriving:
    """A job on its way to a process of the pool, whose main thread unpickles it: the only thread that may say what a
    signal does, and replicas run on others."""

    job: Job

    def __reduce__(self) -> tuple[Callable[[Job], Job], tuple[Job]]:
        return _arrive, (self.job,)


def _arrive(job: Job) -> Job:
    hear_signals(job)
    return job


def start(job: Job) -> None:
    """Start all replicas of this host and wait for their end. Raises BrokenProcessPool when a process ends badly."""
    from torch_xla.distributed import xla_multiprocessing as xmp  # reads the environment, so not before

    if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
        # A worker of joblib hands its own method, loky, to its children, who do not know it.
        multiprocessing.set_start_method("spawn", force=True)
    xmp.spawn(_main, args=(_Arriving(job),))


def _main(index: int, job: Job) -> None:
    """What each replica's thread runs."""
    from xlatrain.xla.torch_xla_replica import this_replica

    enter_process(job)
    run_replica(job, lambda: this_replica(job.platform))
