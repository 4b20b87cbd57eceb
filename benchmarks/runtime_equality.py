"""Is it the same run, whatever runs it? Losses of torch_xla, and of JAX's runtime in one process and in several.

    python benchmarks/runtime_equality.py [--steps 20] [--layouts 1x8,2x4,4x2] [--groups 8,4] [--keep FOLDER] [...]

EfficientNet-B0 on digits at 64 px, or what the overrides name, on 8 replicas; a layout is processes x replicas of each.
The same batches go to all, whoever reads them. For each size of the batch norm's groups two questions:

free    how far apart are the losses, and the evaluation, of runs that start alike? Training amplifies a difference.
forced  how far apart is one step, from the very state that torch_xla had before it? The loss, relative, and the update
        of the parameters: |difference| / |update|. What is left here is the order in which floats are added, by another
        compiler and other collectives.

Evidence: the command with model=test_efficientnet data.image_size=32, 2 CPU cores that had other work too, torch-xla
2.9.0, jax 0.7.1, 24 Nov 2026: docs/engine.md has the table. Not run to its end: EfficientNet-B0.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
from pathlib import Path

import torch

from xlatrain.data.order import Position
from xlatrain.data.phase import Place
from xlatrain.engine.contract import TrainMetrics, TrainState
from xlatrain.files import write_json
from xlatrain.preflight.check import check

REPLICAS = 8
SETTING = ["model=efficientnet_b0", "data=digits", "data.image_size=64", "train.global_batch=64"]
OWN = ("buffers", "ema_buffers", "rng")  # of the state, what replicas of several groups do not have in common


def job(replica, runs: dict, steps: int, folder: Path, writes: bool) -> dict:
    """Train the steps of each run, {name: run}; write the state before each and after the last, or also start each step
    from the one that was written. Runs on every replica."""
    from xlatrain.engine.build import TrainProgram, build_phase_model
    from xlatrain.engine.evaluate import Evaluator
    from xlatrain.xla.capture import CapturedStep

    found = {}
    for name, run in runs.items():
        model = replica.shared(f"{name} model", lambda run=run: build_phase_model(run, run.phases[0], replica))
        program = TrainProgram(run, model)
        tables = replica.to_device(program.tables())
        captured = CapturedStep(program.step, replica, f"{name} step")
        batches = replica.shared(f"{name} batches", lambda run=run: first_batches(run, steps))
        kept = [StateFile(folder, name, number, replica.ordinal) for number in range(steps + 1)]

        def step(state, batch, captured=captured, tables=tables):
            mine = {k: t.chunk(replica.world_size)[replica.ordinal] for k, t in batch.items()}
            state, outputs = captured(state, {**replica.to_device(mine), **tables})
            return state, TrainMetrics.read(replica.to_host(outputs))["loss"]

        state, losses = replica.to_device(program.carry(replica.ordinal)), []
        for batch, file in zip(batches, kept, strict=False):
            if writes:
                file.write(replica.to_host(state))
            state, loss = step(state, batch)
            losses.append(loss)
        if writes:
            kept[-1].write(replica.to_host(state))
        evaluate = Evaluator(run.evaluation, model, replica, lambda text: None)
        found[name] = {"losses": losses, "eval": evaluate(TrainState.of(state).weights).as_dict(), "forced": []}
        for batch, (before, after) in zip([] if writes else batches, itertools.pairwise(kept), strict=False):
            old, wanted = before.read(), after.read()
            state, loss = step(replica.to_device(old), batch)
            got = state["params"].cpu()
            apart = (got - wanted["params"]).norm() / (wanted["params"] - old["params"]).norm()
            found[name]["forced"].append((loss, float(apart)))
        replica.barrier()
    return found


class StateFile:
    """A replica's state before a step, in two files: what all have in common, and its own."""

    def __init__(self, folder: Path, name: str, number: int, ordinal: int):
        self.common, self.own = (folder / f"{name}-{number}-{which}.pt" for which in ("all", ordinal))
        self.first = ordinal == 0

    def write(self, state: dict) -> None:
        if self.first:
            torch.save({k: t for k, t in state.items() if k not in OWN}, self.common)
        torch.save({k: t for k, t in state.items() if k in OWN}, self.own)

    def read(self) -> dict:
        return torch.load(self.common) | torch.load(self.own)


def first_batches(run, count: int) -> list:
    """The first batches as one process reads them, copied: the memory of what is read is used again."""
    batches = run.dataset.train.train_batches(Place(0, 1), run.config.train.seed, run.phases, Position())
    return [{k: t.clone() for k, t in batch.items()} for batch in itertools.islice(batches, count)]


def apart(found: dict, wanted: dict) -> dict[str, float]:
    """How far a layout is from torch_xla, by question; losses relative."""
    gaps = [abs(a / b - 1) for a, b in zip(found["losses"], wanted["losses"], strict=True)]
    forced = [abs(loss / b - 1) for (loss, _), b in zip(found["forced"], wanted["losses"], strict=True)]
    return {
        "loss_5": max(gaps[:5]),
        "loss_all": max(gaps),
        "eval_loss": abs(found["eval"]["loss"] / wanted["eval"]["loss"] - 1),
        "eval_top1": abs(found["eval"]["top1"] - wanted["eval"]["top1"]),
        "forced_loss": max(forced),
        "forced_update": max(
            update for _, update in found["forced"] if math.isfinite(update)
        ),  # a rate of 0 moves nothing
    }


def main() -> None:
    from xlatrain.xla.launch import launch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--layouts", default="1x8,2x4,4x2")
    parser.add_argument("--groups", default="8,4")
    parser.add_argument("--keep", type=Path, help="where what torch_xla did is kept, and found if it is there already")
    parser.add_argument("--json", type=Path)
    arguments, more = parser.parse_known_args()
    steps = arguments.steps
    common = [*SETTING, f"train.duration={steps}step", f"cluster.replicas={REPLICAS}", *more]
    runs = {f"groups of {g}": check([*common, f"model.sync_bn_group={g}"]) for g in arguments.groups.split(",")}
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        if not (reference := folder / "torch_xla.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(reference, launch("runtime_equality:job", runs, steps, folder, True, replicas=REPLICAS))
        results["torch_xla"] = json.loads(reference.read_text())
        for layout in filter(None, arguments.layouts.split(",")):
            where = {"replicas": REPLICAS, "runtime": "jax", "processes": int(layout.partition("x")[0])}
            results[layout] = launch("runtime_equality:job", runs, steps, folder, False, **where)
            for name, found in results[layout].items():
                figures = apart(found, results["torch_xla"][name])
                print(f"{layout}, {name}:", ", ".join(f"{k} {v:.1e}" for k, v in figures.items()), flush=True)
                found["apart"] = figures
    if arguments.json:
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()
