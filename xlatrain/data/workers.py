"""Processes that decode: each fills its rows of every batch, in memory they share with the training process.

Shared memory is anonymous and handed over as a file descriptor, so nothing of it outlives the processes, however they
end. It is used again as soon as the last tensor in it is gone: fresh pages cost more than decoding into them.
"""

from __future__ import annotations

import contextlib
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
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle

import numpy as np

from xlatrain.data.batch import Bad, Batch, BatchShape, BatchSource, Fill, as_tensors
from xlatrain.data.storage.retry import count_retries, retries_so_far
from xlatrain.errors import DataError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_log = logging.getLogger("xlatrain")
_MADE, _FAULT, _BUG = "made", "fault", "bug"
# That a worker makes for a request: 128 cost images of CIFAR's size nothing measurable, 32 cost 2 to 9 %.
_LEAST_ROWS = 128
_LIVES_ON = 60  # seconds, after SIGTERM


def make_batches(source: BatchSource, workers: int, prefetch: int) -> Iterator[Batch]:
    """The batches of a source, in its order. workers: processes that make them; 0 = the calling thread.

    Raises DataError as the source does, also when a worker dies. The iterator's close() ends the workers."""
    return WorkerBatches(source, workers, prefetch) if workers else _own_batches(source)


def _own_batches(source: BatchSource) -> Iterator[Batch]:
    source.open()
    for shape, fill in source.fills(0):
        rows = shape.new()
        source.finish(rows, fill(rows))
        yield as_tensors(rows)


class WorkerBatches:
    """An iterator over batches that workers make. close() may be called from any thread, and more than once."""

    def __init__(self, source: BatchSource, workers: int, prefetch: int):
        self._source, self._shapes = source, source.shapes()
        self._memory = _SharedMemory(source.largest)
        self._most = max(1, prefetch * workers // 2)  # batches in one request: two are under way at least
        self._asked: deque[list[tuple[BatchShape, int]]] = deque()
        self._ready: deque[Batch] = deque()
        self._closed = threading.Event()
        context = multiprocessing.get_context("forkserver")
        # torch is imported once, not by each worker.
        context.set_forkserver_preload(["xlatrain.data.dataset", "xlatrain.data.prepare"])
        self._workers = [_Worker(context, source, i, self._memory) for i in range(workers)]
        self._close = weakref.finalize(self, _end_workers, self._workers)
        ahead = 0
        while ahead < prefetch * workers and (asked := self._ask()):
            ahead += asked

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._closed.is_set():
            raise StopIteration
        try:
            if not self._ready:
                self._take()
        except Exception:
            if self._closed.is_set():
                raise StopIteration from None
            self.close()
            raise
        if not self._ready:
            self.close()
            raise StopIteration
        return self._ready.popleft()

    def _take(self) -> None:
        """Take the batches that were asked for first, and ask for as many more. None after the last one."""
        made = [worker.take() for worker in self._workers]
        for i, (shape, slot) in enumerate(self._asked.popleft()):
            rows = shape.views(self._memory.hand_out(slot))
            self._source.finish(rows, next((bad[i] for bad in made if bad[i]), None))
            self._ready.append(as_tensors(rows))
        if self._ready:
            self._ask()

    def _ask(self) -> int:
        """Have every worker fill its rows of the next batches; of none past the last one, which lets it see whether the
        last shard ends too. Returns their number."""
        shapes, rows = [], 0
        while len(shapes) < self._most and rows < _LEAST_ROWS * len(self._workers):
            if (shape := next(self._shapes, None)) is None:
                break
            shapes.append(shape)
            rows += shape.batch
        asked = [(shape, self._memory.take()) for shape in shapes]
        self._asked.append(asked)
        for worker in self._workers:
            worker.ask([slot for _, slot in asked])
        return len(asked)

    def pids(self) -> list[int]:
        """The workers' process numbers."""
        return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        """End the workers at once."""
        self._closed.set()
        self._close()


class _Worker:
    """A worker as the training process sees it."""

    def __init__(
        self, context: multiprocessing.context.BaseContext, source: BatchSource, number: int, memory: _SharedMemory
    ):
        self.number = number
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_work, args=(source, number, memory.size, theirs), daemon=True, name=f"data-worker-{number}"
        )
        self.process.start()
        theirs.close()
        with contextlib.suppress(OSError):  # it has died: take() says how
            send_handle(self.connection, memory.descriptor, self.process.pid)

    def ask(self, slots: list[int]) -> None:
        """Have it fill its rows of the next batches, in these blocks of memory."""
        with contextlib.suppress(OSError):
            self.connection.send(slots)

    def take(self) -> list[Bad | None]:
        """Wait for what was asked for first. Returns, for each batch, a sample of it that could not be decoded. Raises
        DataError."""
        try:
            kind, what, retries = self.connection.recv()
        except (EOFError, ConnectionError):  # nobody else holds the other end
            raise self._death() from None
        if retries:
            count_retries(retries)
            _log.warning("data worker %d went on after %d broken connections", self.number, retries)
        if kind == _MADE:
            return what
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
    for worker in workers:
        worker.process.join()  # which wakes a thread that waits for it
        worker.connection.close()
        worker.process.close()


class _SharedMemory:
    """Blocks of one file of memory, which the training process and its workers see. A block that was handed out is free
    again when the last array or tensor in it is gone, on whatever thread that happens."""

    def __init__(self, least: int):
        self.size = -(-max(1, least) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY  # of a block
        self.descriptor = os.memfd_create("xlatrain-batches", os.MFD_CLOEXEC)
        self._maps: list[mmap.mmap] = []
        self._free: deque[int] = deque()
        weakref.finalize(self, os.close, self.descriptor)

    def take(self) -> int:
        """A free block; another one is made when there is none."""
        try:
            return self._free.popleft()
        except IndexError:
            slot = len(self._maps)
            os.ftruncate(self.descriptor, (slot + 1) * self.size)
            self._maps.append(_map_block(self.descriptor, slot, self.size))
            return slot

    def hand_out(self, slot: int) -> np.ndarray:
        """The block as bytes; counts as used as long as the array or a view of it lives."""
        block = (ctypes.c_ubyte * self.size).from_buffer(self._maps[slot])
        weakref.finalize(block, self._free.append, slot).atexit = False
        return np.frombuffer(block, np.uint8)


def _map_block(descriptor: int, slot: int, size: int) -> mmap.mmap:
    return mmap.mmap(descriptor, size, offset=slot * size)


def _work(source: BatchSource, number: int, size: int, connection: Connection) -> None:
    """A worker's life: fill its rows of batches whenever they are asked for, until nobody asks."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A scheduler may send it to all processes of a run, which then needs more batches until its step is done.
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_LIVES_ON))
    torch.set_num_threads(1)
    _keep_memory()
    blocks: dict[int, np.ndarray] = {}
    fills, retries = None, retries_so_far()
    try:
        descriptor = recv_handle(connection)
        while True:
            slots = connection.recv()
            for slot in slots:
                if slot not in blocks:
                    blocks[slot] = np.frombuffer(_map_block(descriptor, slot, size), np.uint8)
            try:
                if fills is None:
                    source.open()
                    fills = source.fills(number)
                made = _MADE, _make(fills, [blocks[slot] for slot in slots])
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


def _make(fills: Iterator[Fill], blocks: list[np.ndarray]) -> list[Bad | None]:
    """Fill the next batches. No blocks: there is none left, and what reads them comes to its end."""
    made = []
    for block, (shape, fill) in zip(blocks, fills, strict=False):
        made.append(fill(shape.views(block)))
    if not blocks:
        next(fills, None)
    return made
