"""A training step on XLA:CPU beside eager PyTorch, in turns in one go.

    python benchmarks/cpu_step.py [--replicas 1,8] [--rounds 5] [--json FILE] [any xlatrain override ...]

EfficientNet-B0 at 224 px, 16 images over all replicas, float32: forward, backward and SGD with momentum. XLA: the
captured step of `xlatrain train`, with sync batch norm over all replicas. Eager: timm's model, channels_last, on 16
images at once, in a process of its own that is as PyTorch starts it, while all replicas wait. Milliseconds are medians
over the rounds after the first.

Evidence: the command as above but for --rounds, 2 CPU cores, torch 2.9.1, torch-xla 2.9.0, timm 1.0, 28 Nov 2026. One
replica, nothing else running, 4 rounds: XLA 2,495 ms, eager 1,582 ms, ratio 1.58; compiled in about a minute. Eight
replicas: 3,044 and 1,644 ms, 1.85, in the one round of three that no other work disturbed.
Not run: on more than 2 cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from xlatrain.files import write_json

SETTING = [
    "model=efficientnet_b0",
    "model.drop_rate=0",
    "model.drop_path_rate=0",
    "data=synthetic",
    "data.image_size=224",
    "data.num_classes=1000",
    "augment=none",
    "ema=off",
    "optimizer=sgd",
    "train.global_batch=16",
]


def captured_step(run, replica):
    """xlatrain's step on one batch; returns a function that runs it to its end."""
    import torch

    from xlatrain.engine.build import TrainProgram, build_phase_model
    from xlatrain.xla.capture import CapturedStep

    model = replica.shared("model", lambda: build_phase_model(run, run.phases[0], replica))
    program = TrainProgram(run, model)
    state, tables = replica.to_device(program.carry(replica.ordinal)), replica.to_device(program.tables())
    batch = program.blank_batch(run.phases[0])
    random = torch.Generator().manual_seed(replica.ordinal)
    batch["images"] = torch.randint(0, 256, batch["images"].shape, generator=random, dtype=torch.uint8)
    batch = replica.to_device(batch)
    captured = CapturedStep(program.step, replica, "train step")

    def step() -> None:
        nonlocal state
        state, _ = captured(state, {**batch, **tables})
        replica.wait()

    return step


def answer_eagerly(run) -> None:
    """The usual loop of PyTorch on the whole batch: a step for each line that comes in, then one that goes out."""
    import torch
    import torch.nn.functional as F

    from xlatrain.models.create import build_model

    config = run.config
    size, optimizer = config.data.image_size, config.optimizer
    model = build_model(config.model, run.dataset.num_classes, size, config.train.seed)
    model = model.train().to(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(model.parameters(), 0.01, optimizer.momentum, nesterov=optimizer.nesterov)
    pixels = torch.randint(0, 256, (config.train.global_batch, size, size, 3), dtype=torch.uint8)
    labels = torch.zeros(len(pixels), dtype=torch.long)
    for _ in sys.stdin:
        images = (pixels.float() / 255 - 0.5).permute(0, 3, 1, 2)
        sgd.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        sgd.step()
        print("done", flush=True)


def eager_step(overrides: list[str]):
    """A function that runs one step of that loop, in another process."""
    command = [sys.executable, __file__, "--eager", *overrides]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    other = subprocess.Popen(command, env={**os.environ, "GLIBC_TUNABLES": ""}, **pipes)

    def step() -> None:
        other.stdin.write("\n")
        other.stdin.flush()
        if other.stdout.readline() != "done\n":
            raise RuntimeError("the eager loop has ended")

    return step


def measure(replica, run, overrides: list[str], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each step, in turn. Runs on every replica; the first one measures, and has the eager one run."""
    ours, eager = captured_step(run, replica), eager_step(overrides) if replica.is_first else None
    times: dict[str, list[float]] = {"xla": [], "eager": []}
    for number in range(rounds + 1):
        for name in times:
            replica.barrier()
            started = time.perf_counter()
            if name == "xla":
                ours()
            elif replica.is_first:
                eager()
            replica.barrier()
            if number and replica.is_first:
                times[name].append(1e3 * (time.perf_counter() - started))
                print(f"round {number:2d} {name:5} {times[name][-1]:9.1f} ms", flush=True)
    return times


def main() -> None:
    from xlatrain.preflight.check import check
    from xlatrain.xla.launch import launch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", default="1,8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--eager", action="store_true", help=argparse.SUPPRESS)
    arguments, more = parser.parse_known_args()
    if arguments.eager:
        answer_eagerly(check(more))
        return
    results = {}
    for replicas in map(int, arguments.replicas.split(",")):
        overrides = [*SETTING, f"cluster.replicas={replicas}", *more]
        run = check(overrides)
        times = launch("cpu_step:measure", run, overrides, arguments.rounds, replicas=replicas)
        xla, eager = statistics.median(times["xla"]), statistics.median(times["eager"])
        results[replicas] = {"xla_ms": xla, "eager_ms": eager, "ratio": xla / eager}
        print(
            f"{run.config.model.name}, {run.config.data.image_size} px, {run.config.train.global_batch} images on "
            f"{replicas} replica{'s' if replicas > 1 else ''}: XLA {xla:.0f} ms, eager {eager:.0f} ms a step, "
            f"ratio {xla / eager:.2f} (medians of {arguments.rounds})",
            flush=True,
        )
    if arguments.json:
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()
