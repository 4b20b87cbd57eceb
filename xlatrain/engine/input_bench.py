"""The input pipeline alone, on the user's own data, step by step, and what its figures mean for the cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from xlatrain.data.order import Position, streams_for
from xlatrain.data.phase import Phase, Place
from xlatrain.data.sharded import ShardedSplit
from xlatrain.data.sources import TrainSource
from xlatrain.data.workers import WorkerBatches
from xlatrain.preflight.checked import CheckedRun
from xlatrain.words import counted

if TYPE_CHECKING:
    from xlatrain.xla.replica import Replica

MOST_AT_ONCE = 256  # images of a batch here: what a larger one costs an image is the same
STEPS = ("read", "decode", "resize", "augment", "collate", "transfer")


@dataclass(frozen=True)
class InputBench:
    """What was measured. images_per_second_core: of processor time, so also with other jobs beside; microseconds: of
    processor time for an image, by step, transfer of the clock; needed_per_host: null where nothing says what the
    cluster takes."""

    data: str
    image_size: int
    samples: int
    decoder: str
    images_per_second_core: float
    images_per_second_host: float
    workers: int
    cores: int
    microseconds: dict[str, float]
    needed_per_host: float | None
    verdict: str


def measure(run: CheckedRun, seconds: float, needed: float | None, say: Callable[[str], None]) -> InputBench:
    """Run the training pipeline of a checked run, which reads shards: on one core, on all, and to a device. seconds: of
    each of the two. needed: images per second that a host of the cluster takes, None where nobody knows."""
    from xlatrain.xla.launch import launch

    split, last, cores = run.dataset.train, run.phases[-1], os.cpu_count() or 1
    workers = split.config.workers or cores
    batch = min(MOST_AT_ONCE, last.global_batch, split.samples)
    phase = replace(last, first_step=0, global_batch=batch)
    say(f"one core, {seconds:g} s: batches of {batch}, {phase.image_size} px")
    core, microseconds, decoder = _one_core(_with(split, 0, batch), run.config.train.seed, phase, seconds)
    workers = max(1, min(workers, split.samples // batch))
    say(f"{counted(workers, 'worker')} on {counted(cores, 'core')}, {seconds:g} s")
    host = _all_cores(_with(split, workers, batch), run.config.train.seed, phase, seconds)
    say("transfer to a CPU device of XLA")
    microseconds["transfer"] = 1e6 * launch("xlatrain.engine.input_bench:time_transfer", phase)
    return InputBench(
        data=run.config.data.name,
        image_size=phase.image_size,
        samples=split.samples,
        decoder=decoder,
        images_per_second_core=round(core, 1),
        images_per_second_host=round(host, 1),
        workers=workers,
        cores=cores,
        microseconds={name: round(microseconds.get(name, 0.0), 1) for name in STEPS},
        needed_per_host=needed,
        verdict=judge(core, host, cores, needed),
    )


def judge(core: float, host: float, cores: int, needed: float | None) -> str:
    """What the figures mean, in a sentence."""
    if needed is None:
        return (
            f"This host prepares {host:,.0f} images/s; what the cluster takes is not known: give need=..., or a TPU "
            "cluster= and the extra plan."
        )
    many = -(-needed // core)
    if host >= 1.2 * needed:
        return f"Enough: {host:,.0f} images/s for the {needed:,.0f} that a host of the cluster takes."
    if host >= needed:
        return f"Barely enough: {host:,.0f} images/s for the {needed:,.0f} that a host of the cluster takes."
    return (
        f"Not enough: {host:,.0f} of the {needed:,.0f} images/s that a host of the cluster takes; that is {many:,.0f} "
        f"cores like these {cores}. Re-encode smaller (xlatrain shards --short-side), or install the extra fast-decode."
    )


def time_transfer(replica: Replica, phase: Phase) -> float:
    """Seconds that an image takes from a host batch to a device: median of 20 batches. Runs on a replica."""
    images, times = torch.zeros(phase.global_batch, phase.image_size, phase.image_size, 3, dtype=torch.uint8), []
    for _ in range(20):
        started = time.perf_counter()
        device = replica.to_device({"images": images})
        replica.wait()
        times.append(time.perf_counter() - started)
        del device
    return sorted(times)[10] / phase.global_batch


def _with(split: ShardedSplit, workers: int, batch: int) -> ShardedSplit:
    """The split read by so many workers of one machine, in windows small enough that what is read ahead is little: two
    batches of each worker."""
    readers = max(1, workers)
    streams = streams_for(readers)
    window = min(split.config.shuffle_window, -(-2 * batch * readers // streams))
    return replace(split, config=replace(split.config, workers=workers, streams=streams, shuffle_window=window))


def _one_core(split: ShardedSplit, seed: int, phase: Phase, seconds: float) -> tuple[float, dict[str, float], str]:
    """Images per second of processor time, microseconds an image by step, and which decoder it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        stream = TrainSource(split, Place(0, 1), seed, (phase,), Position())
        stream.open()
        fills = stream.fills(0)
        rows = next(fills)[0].new()
        stream.seconds.clear()
        images, started, processor = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - started < seconds or not images:
            shape, fill = next(fills)
            fill(rows)
            images += shape.batch
        processor = time.process_time() - processor
        fills.close()
    finally:
        torch.set_num_threads(threads)
    steps = {name: 1e6 * value / images for name, value in stream.seconds.items()}
    steps["collate"] = max(0.0, 1e6 * processor / images - sum(steps.values()))
    return images / processor, steps, stream.preparer.decoder


def _all_cores(split: ShardedSplit, seed: int, phase: Phase, seconds: float) -> float:
    """Images per second that workers hand over."""
    stream = TrainSource(split, Place(0, 1), seed, (phase,), Position())
    batches = WorkerBatches(stream, split.workers, split.config.prefetch)
    try:
        for _ in range(2 * split.workers):  # what was prepared while the processes started is no speed
            next(batches)
        images, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds or not images:
            images += len(next(batches)["labels"])
        return images / (time.perf_counter() - started)
    finally:
        batches.close()
