"""How much memory of this machine a training step takes on CPU, measured at small batches, by a straight line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from xlatrain.engine.build import TrainProgram, build_phase_model
from xlatrain.engine.run import placement
from xlatrain.preflight.checked import CheckedRun
from xlatrain.words import counted
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.replica import Replica

_MIB = 2**20
_SEEN = 64 * _MIB  # growth that stands out from what a process's memory is off by
_MOST = 7  # measurements
MARGIN = 0.8  # share of the memory that is free now; the rest is for what a step is not: loaders, an evaluation, a save


@dataclass(frozen=True)
class Fitting:
    """measured: bytes that the process of the replicas took at most, by global batch, all else included. per_image:
    bytes by which it grows, None of one measurement; free: bytes of memory there are. largest: the global batch, None
    where one image a replica is too many; capped: it is not memory that ends it, but the number of images to train
    on."""

    measured: dict[int, int]
    per_image: float | None
    free: int
    largest: int | None
    capped: bool


def find_fitting(run: CheckedRun, say: Callable[[str], None]) -> Fitting:
    """Measure steps of growing batches in processes of their own, until the growth can be seen, and draw a line."""
    from xlatrain.xla.launch import launch

    config = run.config
    share, processes = config.cluster.replicas * config.gradient.accumulate, config.cluster.processes_per_host or 1
    most, measured, local, free = run.lengths.samples // share, {}, 1, free_memory()
    while len(measured) < _MOST and local <= most:
        sized = _sized(run, local * share)
        found = launch("xlatrain.engine.memory_probe:take_steps", sized, **placement(config)) * processes
        measured[local * share] = found
        say(f"batch {local * share:,}: {found / _MIB:,.0f} MiB")
        grown = len(measured) > 1 and found - min(measured.values()) > _SEEN
        factor = next((f for f in (4, 2) if f * found <= MARGIN * free), None)  # of a step that might not fit, no step
        if grown or factor is None:
            break
        local *= factor
    return judge(measured, free, share, run.lengths.samples)


def judge(measured: dict[int, int], free: int, share: int, samples: int) -> Fitting:
    """The largest batch, a multiple of `share`, on the line through the first and the last measurement; of one alone,
    since the next might not fit, that one."""
    (first, low), (last, high) = min(measured.items()), max(measured.items())
    room, most = MARGIN * free - low, samples // share * share
    if room < 0:
        return Fitting(measured, None, free, None, False)
    if first == last:
        return Fitting(measured, None, free, first, first == most)
    per_image = max(0.0, (high - low) / (last - first))
    by_memory = first + int(room / per_image) // share * share if per_image else most
    return Fitting(measured, per_image, free, min(by_memory, most), by_memory >= most)


def take_steps(replica: Replica, run: CheckedRun) -> int:
    """Bytes of memory that the process has held at most, after two steps on blank images. Runs on every replica."""
    phase = run.phases[0]
    program = TrainProgram(run, replica.shared("model", lambda: build_phase_model(run, phase, replica)))
    step = CapturedStep(program.step, replica, "train step")
    state = replica.to_device(program.carry(replica.ordinal))
    inputs = replica.to_device({**program.blank_batch(phase), **program.tables()})
    for _ in range(2):
        state, outputs = step(state, inputs)
        replica.to_host(outputs)
    replica.barrier()
    return memory_line(Path("/proc/self/status"), "VmHWM")


def free_memory() -> int:
    """Bytes of memory that this machine, or the group of processes that this one is of, has free."""
    free = memory_line(Path("/proc/meminfo"), "MemAvailable")
    group = Path("/sys/fs/cgroup")
    try:
        limit, taken = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else min(free, max(0, int(limit) - int(taken)))
    except (OSError, ValueError):
        return free


def memory_line(path: Path, name: str) -> int:
    """Bytes that a line of /proc says, in kB there."""
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def describe(found: Fitting) -> list[str]:
    """What was found, in words."""
    sizes = sorted(found.measured)
    grows = "" if found.per_image is None else f": {found.per_image / _MIB:.2f} MiB an image"
    lines = [f"measured at {'batches' if len(sizes) > 1 else 'a batch'} of {', '.join(f'{n:,}' for n in sizes)}{grows}"]
    lines.append(f"free memory {found.free / _MIB:,.0f} MiB, of which {MARGIN:.0%} are counted on")
    if found.largest is None:
        return [*lines, "not even one image a replica fits: take fewer replicas or a smaller model"]
    ended = "by the line; not run at that size" if found.per_image is not None else "a larger one was not tried"
    ended = "all images there are to train on" if found.capped else ended
    return [*lines, f"largest global batch: {counted(found.largest, 'image')} ({ended})"]


def _sized(run: CheckedRun, batch: int) -> CheckedRun:
    """The run with a global batch, in its only phase."""
    config, phase = run.config, replace(run.phases[0], global_batch=batch)
    lengths = replace(run.lengths, phases=(phase,))
    return replace(run, config=replace(config, train=replace(config.train, global_batch=batch)), lengths=lengths)
