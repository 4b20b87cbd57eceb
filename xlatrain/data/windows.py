"""Windows of the streams that a reader meets, read ahead by one thread."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from xlatrain.data.shard_format import Sample

Window = tuple[int, int, np.ndarray]  # first, last and ranks, as order.handed_out gives them


@dataclass
class _Stream:
    """windows: those not asked for yet. loading: the next one. held: what is left of the one in use, the next sample
    last. early: so many samples before its end the next window is asked for."""

    windows: Iterator[Window]
    loading: Future[list[Sample]] | None = None
    held: list[Sample] = field(default_factory=list)
    early: int = 0


class WindowReader:
    """Hands out the samples of streams, each window by window. windows: of each stream; read: the samples between two
    positions; seconds: where the processor time of reading is counted.

    Streams come to the end of a window at the same time, so they ask for the next one after each other, within the
    first half of it: the thread then neither takes the processor from decoding all at once, nor has all windows twice.
    """

    def __init__(
        self,
        windows: Sequence[Iterator[Window]],
        read: Callable[[int, int], Iterator[Sample]],
        seconds: Counter[str],
    ):
        self._read, self._seconds = read, seconds
        self._pool = ThreadPoolExecutor(1, "window-reader")
        self._streams = [_Stream(of_stream) for of_stream in windows]
        for stream in self._streams:
            self._ask(stream)

    def take(self, number: int, count: int) -> list[Sample]:
        """The next samples of a stream; fewer only at its end. Raises what reading them raised."""
        stream, taken = self._streams[number], []
        while len(taken) < count:
            if not stream.held and not self._next_window(number):
                break
            for _ in range(min(count - len(taken), len(stream.held))):
                taken.append(stream.held.pop())
            if stream.loading is None and len(stream.held) <= stream.early:
                self._ask(stream)
        return taken

    def _next_window(self, number: int) -> bool:
        stream = self._streams[number]
        if stream.loading is None:
            return False
        stream.held, stream.loading = stream.loading.result(), None
        stream.held.reverse()
        stream.early = round(len(stream.held) * (1 - number / len(self._streams) / 2))
        return True

    def _ask(self, stream: _Stream) -> None:
        if (window := next(stream.windows, None)) is not None:
            stream.loading = self._pool.submit(self._load, *window)

    def _load(self, first: int, last: int, ranks: np.ndarray) -> list[Sample]:
        started, wanted = time.thread_time(), set(ranks.tolist())
        kept = {i: s for i, s in enumerate(self._read(first, last)) if i in wanted}
        self._seconds["read"] += time.thread_time() - started
        return [kept.pop(i) for i in ranks.tolist()]

    def __enter__(self) -> WindowReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
