"""Many processes for jobs that do not depend on each other."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import forkserver
from typing import TypeVar

J = TypeVar("J")
R = TypeVar("R")


@contextlib.contextmanager
def run_jobs(function: Callable[[J], R], jobs: Sequence[J], processes: int) -> Iterator[Iterator[R]]:
    """The results as they come, in any order. However it is left, no worker is left over; one process is this one."""
    processes = min(processes, len(jobs))
    if processes <= 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield map(function, jobs)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["xlatrain.data.make_shards.write", "xlatrain.data.make_shards.survey"]
    )  # torch is imported once
    with _on_interrupt(signal.SIG_IGN):  # which the server inherits: it would show where its imports were interrupted
        forkserver.ensure_running()
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin)
    try:
        late = []
        with _on_interrupt(lambda *_: late.append(True)):  # a worker half started would not be found to be ended
            futures = [executor.submit(function, job) for job in jobs]
        if late:
            raise KeyboardInterrupt
        yield (future.result() for future in as_completed(futures))
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _on_interrupt(handler: Callable[..., object] | signal.Handlers) -> Iterator[None]:
    """Let `handler` answer Ctrl-C meanwhile; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin() -> None:
    """Ctrl-C reaches every process of a terminal, but ending is up to the first one. Warnings help nobody here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
