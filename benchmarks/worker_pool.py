"""xlatrain's worker processes against torch's DataLoader, around one stream of batches; `input_pipeline.py --workers`.

The code that reads, decodes, crops and resizes is the same (TrainSource.fills); only who carries its batches to the
training process differs, and that ours fill the rows of each batch together. Methods, interleaved pass by pass, in
turns that change:
ours      xlatrain.data.workers: a few blocks of shared memory, used again once their tensors are gone
loader    torch.utils.data.DataLoader over an IterableDataset, forkserver, dicts of tensors
tuned     the same made as fast as it can be: a batch is one tensor, filled where it is shared (as torch's collate
          does), and the allocator keeps freed memory, as ours does

Evidence: 2 cores of a virtual machine (AMD EPYC), torch 2.9.1, 21 Nov 2026, 2 workers, medians of 9 passes, each run
once:

    10,000 CIFAR images, 32 px, batches of 128        images/s  of a core  ours over it  start   death   workers
    ours                                                18,368      9,852                0.12 s  0.04 s  132 MB
    loader                                              14,585      7,588  1.28 (1.29)   0.08 s  5.04 s  135 MB
    tuned                                               14,723      7,878  1.23 (1.24)   0.10 s  5.03 s  136 MB
    334 ImageNet photographs, 224 px, batches of 64
    ours                                                 1,580        900                0.16 s  0.06 s  257 MB
    loader                                               1,407        764  1.16 (1.21)   0.15 s  5.15 s  273 MB
    tuned                                                1,456        797  1.09 (1.11)   0.16 s  5.15 s  232 MB

In brackets the ratio of processor time, over all pairs of passes 1.06 to 1.62; other jobs ran beside the first of the
two. Ours names the worker that died, and of what; the DataLoader says that one "exited unexpectedly", and once in about
50 deaths raised a bare EOFError. Its workers make whole batches, so a batch cannot draw on the windows of all. Hence a
pool of our own.
"""

from __future__ import annotations

import copy
import os
import re
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from xlatrain.config.schema import AugmentConfig, ShardsConfig
from xlatrain.data.batch import Batch, BatchShape, BatchSource, Fill, as_tensors
from xlatrain.data.order import Position
from xlatrain.data.phase import Phase, Place
from xlatrain.data.shard_format import write_shards
from xlatrain.data.sharded import ShardedSplit
from xlatrain.data.sources import TrainSource
from xlatrain.data.workers import WorkerBatches, _keep_memory

PREFETCH, WINDOW = 2, 128
METHODS = ("ours", "loader", "tuned")


def whole_batches(stream: TrainSource) -> Iterator[Fill]:
    """What a worker of a DataLoader makes of a stream: whole batches, of its own part of an epoch. Ours fill rows of
    the same batches, which then draw on the windows of all."""
    worker = get_worker_info()
    own = copy.copy(stream)
    own.place, own.workers = Place(worker.id, worker.num_workers), 1
    own.open()
    return own.fills(0)


class Fills(IterableDataset):
    """The batches of a stream that one worker makes, each in memory of its own."""

    def __init__(self, stream: BatchSource):
        self.stream = stream

    def __iter__(self) -> Iterator[Batch]:
        for shape, fill in whole_batches(self.stream):
            rows = shape.new()
            fill(rows)
            yield as_tensors(rows)


class SharedFills(Fills):
    """The same in one block of shared memory, so that nothing is copied on the way."""

    def __iter__(self) -> Iterator[tuple[BatchShape, torch.Tensor]]:
        for shape, fill in whole_batches(self.stream):
            block = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(shape.bytes))
            fill(shape.views(block.numpy()))
            yield shape, block


class Loader:
    """The DataLoader, with what ours has: close() and the workers' numbers."""

    def __init__(self, stream: BatchSource, workers: int, tuned: bool):
        context = torch.multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["xlatrain.data.sharded", "xlatrain.data.prepare"])
        loader = DataLoader(
            SharedFills(stream) if tuned else Fills(stream),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=PREFETCH,
            multiprocessing_context=context,
            worker_init_fn=keep_memory if tuned else None,
        )
        self._batches, self._tuned = iter(loader), tuned

    def __next__(self) -> Batch:
        batch = next(self._batches)
        if not self._tuned:
            return batch
        shape, block = batch
        return as_tensors(shape.views(block.numpy()))

    def pids(self) -> list[int]:
        return [worker.pid for worker in self._batches._workers]

    def close(self) -> None:
        self._batches._shutdown_workers()


def keep_memory(_: int) -> None:
    _keep_memory()


def open_pool(method: str, stream: BatchSource, workers: int) -> WorkerBatches | Loader:
    return WorkerBatches(stream, workers, PREFETCH) if method == "ours" else Loader(stream, workers, method == "tuned")


@dataclass
class Pass:
    """Of one pass of a method: images a second of the clock and of processor time."""

    clock: float
    processor: float


def run_pass(pool: WorkerBatches | Loader, batches: int) -> Pass:
    pids = pool.pids()
    for _ in range((PREFETCH + 1) * len(pids)):  # what was made while other methods ran does not count
        next(pool)
    started, processor, images = time.perf_counter(), processor_seconds(pids), 0
    for _ in range(batches):
        images += len(next(pool)["labels"])
    return Pass(images / (time.perf_counter() - started), images / (processor_seconds(pids) - processor))


def processor_seconds(workers: list[int]) -> float:
    """Of this process and of workers, all threads, also those that have ended."""
    stats = (Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split() for worker in workers)
    return time.process_time() + sum(int(s[11]) + int(s[12]) for s in stats) / os.sysconf("SC_CLK_TCK")


def pool_megabytes(pool: WorkerBatches | Loader) -> float:
    """Proportional set size of the workers."""
    rollups = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pool.pids())
    return sum(int(line.split()[1]) for r in rollups for line in r.splitlines() if line.startswith("Pss:")) / 1e3


def time_start(method: str, stream: BatchSource, workers: int) -> float:
    started = time.perf_counter()
    pool = open_pool(method, stream, workers)
    next(pool)
    seconds = time.perf_counter() - started
    pool.close()
    return seconds


def time_death(method: str, stream: BatchSource, workers: int) -> tuple[float, str]:
    """Seconds from a worker's death to the error, and the error."""
    found = []

    def read() -> None:
        pool = open_pool(method, stream, workers)
        next(pool)
        os.kill(pool.pids()[-1], signal.SIGKILL)
        started = time.perf_counter()
        try:
            while True:
                next(pool)
        except Exception as error:
            found.append((time.perf_counter() - started, re.sub(r"\d{3,}", "N", repr(error))))
        pool.close()

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    return found[0]


def compare_pools(images: list[bytes], size: int, batch: int, workers: int, passes: int, batches: int) -> dict:
    """Each method `passes` times, and then started and killed as often.

    images_per_s: of the clock; ..._core: of processor time of this process and the workers', which other jobs disturb
    less; ours_over_it: median of pairs of passes; start_s: from nothing to the first batch, the fork server running;
    death_s: from SIGKILL of a worker to the error, read from a thread as training reads; workers_mb: proportional set
    size of the workers."""
    with tempfile.TemporaryDirectory() as folder:
        stream = write_stream(Path(folder), images, size, batch, workers)
        return _compare(stream, workers, passes, batches)


def write_stream(folder: Path, images: list[bytes], size: int, batch: int, workers: int, seed: int = 0) -> TrainSource:
    """The images as shards, to be read as training reads them."""
    kinds = {b"\xff\xd8": "jpg", b"\x89P": "png", b"RI": "webp"}
    samples = ((f"{i:06d}", kinds.get(image[:2], "jpg"), image, 0) for i, image in enumerate(images))
    index = write_shards(folder, samples, ["one"], samples_per_shard=100)
    window = min(WINDOW, len(images))
    config = ShardsConfig(root="", image_size=size, workers=workers, streams=workers, shuffle_window=window)
    split = ShardedSplit(index, config, AugmentConfig(name="benchmark", crop="torchvision"), 1)
    return TrainSource(split, Place(0, 1), seed, (Phase(0, min(batch, len(images)), size),), Position())


def _compare(stream: BatchSource, workers: int, passes: int, batches: int) -> dict:
    pools = {method: open_pool(method, stream, workers) for method in METHODS}
    speeds: dict[str, list[Pass]] = {method: [] for method in METHODS}
    for turn in range(passes):
        for method in METHODS[turn % 3 :] + METHODS[: turn % 3]:
            speeds[method].append(run_pass(pools[method], batches))
    memory = {method: pool_megabytes(pool) for method, pool in pools.items()}
    for pool in pools.values():
        pool.close()
    starts: dict[str, list[float]] = {method: [] for method in METHODS}
    deaths: dict[str, list[tuple[float, str]]] = {method: [] for method in METHODS}
    for _ in range(passes):
        for method in METHODS:
            starts[method].append(time_start(method, stream, workers))
            deaths[method].append(time_death(method, stream, workers))

    def ratios(method: str, name: str) -> list[float]:
        return [getattr(a, name) / getattr(b, name) for a, b in zip(speeds["ours"], speeds[method], strict=True)]

    return {
        method: {
            "images_per_s": round(statistics.median(p.clock for p in speeds[method]), 1),
            "images_per_s_core": round(statistics.median(p.processor for p in speeds[method]), 1),
            "ours_over_it": round(statistics.median(ratios(method, "clock")), 3),
            "ours_over_it_core": round(statistics.median(ratios(method, "processor")), 3),
            "spread_core": [round(f(ratios(method, "processor")), 3) for f in (min, max)],
            "start_s": round(statistics.median(starts[method]), 2),
            "death_s": round(statistics.median(seconds for seconds, _ in deaths[method]), 2),
            "death_says": dict(Counter(what for _, what in deaths[method])),
            "workers_mb": round(memory[method]),
        }
        for method in METHODS
    }
