"""Host to device, ahead of time, raising what the loader raises.

torch_xla's own MpDeviceLoader turns an exception of the loader into a normal end of the epoch; this one hands it on.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from xlatrain.xla.replica import Replica, Tensors

Batch = dict[str, torch.Tensor]


class Channel:
    """A bounded queue between two threads that also carries the end, or the failure, of its source."""

    def __init__(self, depth: int):
        self._queue: queue.Queue = queue.Queue(maxsize=depth)
        self._closed = threading.Event()
        self.waited = 0.0  # seconds that the reader stood waiting

    def put(self, item: Any) -> bool:
        """Hand over an item; waits while the queue is full. False when the reader has gone."""
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more will come; with an error, the reader raises it."""
        self.put(error or StopIteration())

    def close(self) -> None:
        """The reader goes away."""
        self._closed.set()

    def _get(self) -> Any:
        while not self._closed.is_set():
            try:
                return self._queue.get(timeout=0.1)
            except queue.Empty:
                continue
        return StopIteration()

    def __iter__(self) -> Iterator[Any]:
        while True:
            started = time.perf_counter()
            item = self._get()
            self.waited += time.perf_counter() - started
            if isinstance(item, StopIteration):
                return
            if isinstance(item, BaseException):
                raise item
            yield item


class HostFan:
    """One loader per process, cut into equal shares for the replicas of the process.

    `batches` yields dicts of host tensors whose first dimension is replicas x local batch. A thread reads them ahead,
    `depth` batches at most; share(i) iterates over the parts of local replica i, in order.
    """

    def __init__(self, batches: Iterable[Batch], replicas: int, depth: int = 2):
        self._channels = [Channel(depth) for _ in range(replicas)]
        self._stop = getattr(batches, "close", lambda: None)
        self._thread = threading.Thread(target=self._read, args=(batches,), daemon=True, name="host-loader")
        self._thread.start()

    def _read(self, batches: Iterable[Batch]) -> None:
        error: BaseException | None = None
        try:
            for batch in batches:
                shares = split_batch(batch, len(self._channels))
                taken = [channel.put(share) for channel, share in zip(self._channels, shares, strict=True)]
                if not all(taken):
                    return
        except Exception as e:
            error = e
        finally:
            self._stop()
        for channel in self._channels:
            channel.end(error)

    def share(self, i: int) -> Channel:
        """The batches of local replica i. Raises the loader's own exception where it occurred."""
        return self._channels[i]

    def join(self) -> None:
        """Wait for the reading thread; it ends when the source does, or when a share is closed. Workers end at once."""
        with contextlib.suppress(ValueError):  # a generator that the thread is in ends when it comes out
            self._stop()
        self._thread.join()


class DeviceFeed:
    """A replica's batches on its device, `ahead` batches before their use.

    Iterating yields dicts of device tensors and raises what the source raises. `waited`: seconds spent waiting for one.
    """

    def __init__(self, fan: HostFan, replica: Replica, ahead: int = 2):
        self._fan, self._channel = fan, Channel(ahead)
        self._source = fan.share(replica.local_ordinal)
        self._thread = threading.Thread(
            target=self._copy, args=(replica,), daemon=True, name=f"device-feed-{replica.ordinal}"
        )
        self._thread.start()

    @property
    def waited(self) -> float:
        return self._channel.waited

    def _copy(self, replica: Replica) -> None:
        error: BaseException | None = None
        try:
            for batch in self._source:
                if not self._channel.put(replica.to_device(batch)):
                    return
        except Exception as e:
            error = e
        self._channel.end(error)

    def __iter__(self) -> Iterator[Tensors]:
        return iter(self._channel)

    def close(self) -> None:
        """Stop reading and copying ahead, and wait for the threads: one that is still in a tensor operation when the
        process ends takes it down with an abort."""
        self._source.close()
        self._channel.close()
        self._thread.join()
        self._fan.join()


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Cut each tensor's first dimension into equal parts. Raises ValueError when it does not divide."""
    for name, tensor in batch.items():
        if len(tensor) % parts:
            raise ValueError(f"{name}: {len(tensor)} rows do not divide among {parts} replicas")
    sizes = {name: len(tensor) // parts for name, tensor in batch.items()}
    return [{name: t[i * sizes[name] : (i + 1) * sizes[name]] for name, t in batch.items()} for i in range(parts)]
