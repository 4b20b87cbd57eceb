"""Processes that decode: they fill batches in memory they share with the training process, in turns.

Shared memory is anonymous and handed over as a file descriptor, so nothing of it outlives the processes, however they
end. It is used again as soon as the last tensor in it is gone: fresh pages cost more than decoding into them.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import multiprocessing
import os
import signal
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from typing import TYPE_CHECKING

import numpy as np

from xlatrain.data.batch import Batch, BatchShape, as_tensors
from xlatrain.data.retry import count_retries, retries_so_far
from xlatrain.errors import DataError

if TYPE_CHECKING:
    from xlatrain.data.sharded import Stream

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_log = logging.getLogger("xlatrain")
_END, _BATCH, _FAULT, _BUG = "end", "batch", "fault", "bug"


def make_batches(stream: Stream, workers: int, prefetch: int) -> Iterator[Batch]:
    """The batches of a stream, in its order. workers: processes that make them; 0 = the calling thread.

    Raises DataError as the stream does, also when a worker dies. The iterator's close() ends the workers."""
    return WorkerBatches(stream, workers, prefetch) if workers else _own_batches(stream)


def _own_batches(stream: Stream) -> Iterator[Batch]:
    stream.open()
    for shape, fill in stream.fills(0):
        rows = shape.new()
        fill(rows)
        yield as_tensors(rows)


class WorkerBatches:
    """An iterator over batches that workers make. close() may be called from any thread, and more than once."""

    def __init__(self, stream: Stream, workers: int, prefetch: int):
        self._memory = _SharedMemory(stream.largest)
        self._turns = stream.turns()
        self._closed = threading.Event()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["xlatrain.data.sharded"])  # torch is imported once, not by each worker
        self._workers = [_Worker(context, stream, i) for i in range(workers)]
        self._close = weakref.finalize(self, _end_workers, self._workers)
        for _ in range(prefetch):
            for worker in self._workers:
                worker.ask(self._memory)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._closed.is_set():
            raise StopIteration
        try:
            if (turn := next(self._turns, None)) is not None:
                batch = self._workers[turn].take(self._memory)
                self._workers[turn].ask(self._memory)
                return batch
            self._see_ends()
        except Exception:
            if self._closed.is_set():
                raise StopIteration from None
            self.close()
            raise
        self.close()
        raise StopIteration

    def _see_ends(self) -> None:
        """Let every worker read to its end, where it sees whether the last shard ends too."""
        for worker in self._workers:
            while worker.take(self._memory) is not None:
                pass

    def pids(self) -> list[int]:
        """The workers' process numbers."""
        return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        """End the workers at once."""
        self._closed.set()
        self._close()


class _Worker:
    """A worker as the training process sees it."""

    def __init__(self, context: multiprocessing.context.BaseContext, stream: Stream, number: int):
        self.number = number
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_work, args=(stream, number, theirs), daemon=True, name=f"data-worker-{number}"
        )
        self.process.start()
        theirs.close()
        self._asked: deque[int] = deque()

    def ask(self, memory: _SharedMemory) -> None:
        """Ask for one more batch, in memory that nobody uses."""
        slot = memory.take()
        self._asked.append(slot)
        try:
            self.connection.send((slot, memory.size))
            if (self.number, slot) not in memory.known:
                memory.known.add((self.number, slot))
                send_handle(self.connection, memory.descriptors[slot], self.process.pid)
        except OSError:  # it has died: take() says how
            pass

    def take(self, memory: _SharedMemory) -> Batch | None:
        """The batch that was asked for first; None when the worker has come to its end. Raises DataError."""
        slot = self._asked.popleft()
        if self.connection not in wait([self.connection, self.process.sentinel]):
            raise self._death()
        try:
            kind, what, retries = self.connection.recv()
        except (EOFError, ConnectionError):
            raise self._death() from None
        if retries:
            count_retries(retries)
            _log.warning("data worker %d went on after %d broken connections", self.number, retries)
        if kind == _BATCH:
            return as_tensors(what.views(memory.hand_out(slot)))
        memory.give_back(slot)
        if kind == _END:
            return None
        raise DataError(what) if kind == _FAULT else RuntimeError(f"data worker {self.number} failed:\n{what}")

    def _death(self) -> DataError:
        self.process.join(1.0)
        code = self.process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
        hint = "; was memory short? Take fewer data.workers or a smaller data.shuffle_window" if code == -9 else ""
        return DataError(f"data worker {self.number} (process {self.process.pid}) {how}{hint}")


def _end_workers(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()
        worker.connection.close()
    for worker in workers:
        worker.process.join()
        worker.process.close()


class _SharedMemory:
    """Blocks of memory that the training process and its workers see. A block that was handed out is free again when
    the last array or tensor in it is gone, on whatever thread that happens."""

    def __init__(self, size: int):
        self.size = max(1, size)
        self.descriptors: list[int] = []
        self.known: set[tuple[int, int]] = set()  # worker, slot: which descriptors have been sent
        self._maps: list[mmap.mmap] = []
        self._free: deque[int] = deque()
        weakref.finalize(self, _close_all, self.descriptors)

    def take(self) -> int:
        """A free block; another one is made when there is none."""
        try:
            return self._free.popleft()
        except IndexError:
            descriptor = os.memfd_create("xlatrain-batch", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, self.size)
            self.descriptors.append(descriptor)
            self._maps.append(mmap.mmap(descriptor, self.size))
            return len(self._maps) - 1

    def give_back(self, slot: int) -> None:
        self._free.append(slot)

    def hand_out(self, slot: int) -> np.ndarray:
        """The block as bytes; counts as used as long as the array or a view of it lives."""
        block = (ctypes.c_ubyte * self.size).from_buffer(self._maps[slot])
        weakref.finalize(block, self._free.append, slot).atexit = False
        return np.frombuffer(block, np.uint8)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _work(stream: Stream, number: int, connection: Connection) -> None:
    """A worker's life: make a batch whenever one is asked for, until nobody asks."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _keep_memory()
    maps: dict[int, np.ndarray] = {}
    fills, retries = None, retries_so_far()
    try:
        while True:
            slot, size = connection.recv()
            if slot not in maps:
                descriptor = recv_handle(connection)
                maps[slot] = np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
                os.close(descriptor)
            try:
                if fills is None:
                    stream.open()
                    fills = stream.fills(number)
                made = _make(fills, maps[slot])
            except DataError as error:
                made = _FAULT, str(error)
            except Exception:
                made = _BUG, traceback.format_exc()
            connection.send((*made, retries_so_far() - retries))
            retries = retries_so_far()
    except (EOFError, OSError, KeyboardInterrupt):
        pass
    finally:
        os._exit(0)  # not to wait for a thread that is reading a slow source


def _keep_memory() -> None:
    """Have glibc keep what is freed: to get fresh pages for every image read costs 40 us of each here."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_M_TRIM_THRESHOLD, 1 << 30), (_M_MMAP_THRESHOLD, 1 << 25), (_M_ARENA_MAX, 1)):
            mallopt(option, value)


def _make(fills: Iterator, memory: np.ndarray) -> tuple[str, BatchShape | None]:
    made = next(fills, None)
    if made is None:
        return _END, None
    shape, fill = made
    fill(shape.views(memory))
    return _BATCH, shape
