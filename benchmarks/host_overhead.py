"""What Python costs per training step: tracing it each time, as torch_xla loops do, against replaying a captured step.

    python benchmarks/host_overhead.py [--steps 20] [--json FILE] [any xlatrain override ...]

EfficientNet-B2, LARS, sync batch norm, bf16 autocast, EMA of weights and statistics, on XLA:CPU with tiny images, so
that only the host is seen. Both loops run in one process, five steps each in turn, on one replica whose collectives are
kept in the graph (XLA_ALWAYS_ALLREDUCE=1); the device has finished before each clock starts. (a) is the usual loop:
model, loss.backward(), xm.all_reduce of the gradients, timm's Lars, timm's ModelEmaV2, torch_xla.sync(). Its figure
is the wall time of tracing, and of sync() only the CPU time of the calling thread (about 50 ms): on XLA:CPU sync()
also waits for the device, which must not count. (b) is xlatrain's captured step on the same model and batches: wall
time of the call.

Evidence: command as above, 2 CPU cores, torch 2.9.1, torch-xla 2.9.0, timm 1.0, 20 Nov 2026, one run:
traced 202.6 ms, replayed 1.04 ms per step, ratio 195 (medians of 20).
Not run: on a TPU host, where the GIL is shared by two replicas (v2, v3) and (a) would cost twice as much.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

from xlatrain.files import write_json

SETTING = [
    "model=efficientnet_b2",
    "data=synthetic",
    "data.image_size=32",
    "data.num_classes=1000",
    "optimizer=lars",
    "precision=bf16",
    "ema=on",
    "model.sync_bn_group=world",
    "model.depthwise=native",
    "cluster.replicas=1",
    "train.global_batch=2",
]


BLOCK = 5  # steps of one loop before it is the other's turn


def traced_loop(config, replica, num_classes: int):
    """The usual torch_xla loop; returns a function that runs one step and says its host seconds."""
    import torch
    import torch.nn.functional as F
    import torch_xla
    import torch_xla.core.xla_model as xm
    from timm.optim import Lars
    from timm.utils import ModelEmaV2

    from xlatrain.models.batch_norm import convert_batch_norm
    from xlatrain.models.create import build_model

    model = build_model(config.model, num_classes, config.data.image_size, config.train.seed)
    convert_batch_norm(model, None, replica.world_size)
    model = model.to(replica.device).train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    exempt = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = Lars(
        [{"params": decayed, "weight_decay": config.optimizer.weight_decay}, {"params": exempt, "weight_decay": 0.0}],
        lr=0.1,
        momentum=0.9,
    )
    for p in model.parameters():  # state before the first step: one graph, not two
        optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    ema = ModelEmaV2(model, decay=config.ema.decay)
    mean = torch.tensor(config.data.mean).to(replica.device) * 255
    std = torch.tensor(config.data.std).to(replica.device) * 255
    torch_xla.sync(wait=True)

    def step(batch) -> float:
        started = time.perf_counter()
        images = ((batch["images"].float() - mean) / std).permute(0, 3, 1, 2)
        with torch.autocast("xla", dtype=torch.bfloat16):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), batch["labels"])
        loss.backward()
        xm.all_reduce(xm.REDUCE_SUM, [p.grad for p in model.parameters()], scale=1.0 / replica.world_size)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(model)
        traced, cpu = time.perf_counter(), time.thread_time()
        torch_xla.sync()
        return traced - started + time.thread_time() - cpu

    return step


def captured_loop(run, replica):
    """xlatrain's step, as `xlatrain train` builds it; returns a function that runs one and says its host seconds."""
    from xlatrain.engine.build import TrainProgram, build_phase_model
    from xlatrain.xla.capture import CapturedStep
    from xlatrain.xla.transfer import to_device

    program = TrainProgram(run, build_phase_model(run, run.phases[0], replica))
    state, tables = to_device(program.carry(0), replica.device), to_device(program.tables(), replica.device)
    captured = CapturedStep(program.step, replica, "train step")

    def step(batch) -> float:
        nonlocal state
        started = time.perf_counter()
        state, _ = captured(state, {**batch, **tables})
        return time.perf_counter() - started

    return step


def measure(replica, run, steps: int) -> dict[str, list[float]]:
    """Milliseconds of host time per step of both loops, in turn. Runs on the replica."""
    from itertools import islice

    from xlatrain.data.order import Position
    from xlatrain.engine.build import place
    from xlatrain.xla.transfer import to_device

    batches = [
        to_device(b, replica.device)
        for b in islice(run.dataset.train.train_batches(place(replica), 0, run.phases, Position()), 4)
    ]
    loops = {
        "traced": traced_loop(run.config, replica, run.dataset.num_classes),
        "replayed": captured_loop(run, replica),
    }
    times: dict[str, list[float]] = {name: [] for name in loops}
    for block in range(1 + -(-steps // (BLOCK - 1))):
        for name, step in loops.items():
            for i in range(BLOCK):
                replica.wait()
                elapsed = 1e3 * step(batches[i % len(batches)])
                replica.wait()
                if block and i:  # the first block compiles; the first step of a block finds the other loop's caches
                    times[name].append(elapsed)
                print(f"block {block:2d} {name:8} {elapsed:9.2f} ms", flush=True)
    return times


def main() -> None:
    from xlatrain.preflight.check import check
    from xlatrain.xla.launch import launch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments, more = parser.parse_known_args()
    os.environ["XLA_ALWAYS_ALLREDUCE"] = "1"
    run = check([*SETTING, *more])
    times = launch("host_overhead:measure", run, arguments.steps, replicas=1)
    traced, replayed = statistics.median(times["traced"]), statistics.median(times["replayed"])
    result = {"traced_ms": traced, "replayed_ms": replayed, "ratio": traced / replayed}
    print(
        f"traced {traced:.1f} ms, replayed {replayed:.2f} ms per step, ratio {traced / replayed:.0f} "
        f"(medians of {arguments.steps})"
    )
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
