"""Is a run that was stopped and gone on with the run that never stopped? Both are made and compared bit by bit.

    python benchmarks/resume.py [--steps 30] [--stops 11] [--optimizer sgd] [--runtime torch_xla] [--replicas 4]
        [--then OVERRIDE] [--kill random] [--seed 0] [--json FILE] [any xlatrain override ...]

The configuration has all that could go wrong in it: dropout, stochastic depth, mixup, erasing, AutoAugment on random
crops, a moving average, batch norm statistics of groups of two, and images whose size changes within the run. `--stops
11,23` ends the run after those steps, as a failure would. `--kill random` kills it (SIGKILL) at moments drawn by the
seed, with a checkpoint every third step, until it is done. `--then cluster.replicas=2`, which may be given several
times, goes on with something changed: on other replicas bits differ, since sums over them are rounded otherwise, and
the gap of the losses is what counts.

What is compared: every tensor of the last checkpoint, weights.safetensors, and every line of metrics.jsonl but for its
times.

Evidence: 2 CPU cores, torch 2.9.1, torch-xla 2.9.0, 24 Nov 2026, one run each, steps compiled without optimizations
(XLA_FLAGS=--xla_backend_optimization_level=0), seed 0. The same bits throughout: sgd and lars, 4 replicas, 30 steps,
stopped after 11; sgd with --runtime jax, 2 replicas, 20 steps, stopped after 11. 8 replicas, then cluster.replicas=4,
24 steps, stopped after 11, without what is drawn on the devices (model.sync_bn_group=world augment.mixup=0
augment.erase=0 augment.flip=false model.drop_rate=0 model.drop_path_rate=0): losses up to 6e-7 apart.
With a small model of two convolutions with dropout in place of EfficientNet (model._target_=tests.nets.Small
+model.kwargs.drop=0.2 model.drop_rate=null model.drop_path_rate=null), 2 replicas with statistics of their own
(model.sync_bn_group=local), else the same; 21:13 to 21:50 UTC, 68 to 125 s each beside another one: the same bits
throughout for sgd stopped after 5, 11, 14, 20 and 27 of 30 steps; 60 steps stopped after 23; killed 6 times by --kill
random in 40 steps; lamb by torch_xla, lamb and lars by jax, 30 steps stopped after 11. 28 Nov 2026, 02:16 to 02:33 UTC,
so too: rmsprop_tf by torch_xla and by jax, stopped after 11; sgd killed at random in 40 steps, 10 times by torch_xla
(--seed 5) and 11 times by jax (--seed 3). 8 replicas by jax, 20 steps, stopped after 7, then
cluster.processes_per_host=2: losses up to 5e-8 apart.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from xlatrain.engine import run as runs
from xlatrain.errors import ReplicaError
from xlatrain.files import write_json
from xlatrain.preflight.check import check

EVERYTHING = [
    "augment.crop=tf",
    "augment.policy=autoaugment",
    "augment.flip=true",
    "augment.mixup=0.2",
    "augment.erase=0.3",
    "augment.sizes=[{until: 1ep, size: 24}, {size: 32}]",
    "model.drop_rate=0.2",
    "model.drop_path_rate=0.1",
    "model.sync_bn_group=2",
    "ema=on",
    "train.global_batch=96",
    "train.log_every=4step",
    "train.eval_every=50%",
]
TIMES = ("images_per_second", "host_ms_per_step", "data_wait_fraction", "spent")
SMALL = {"sgd": 0.01, "lars": 1.0, "lamb": 0.003, "adamw": 0.001, "rmsprop_tf": 0.001}  # learning rates that train


def metrics(folder: Path) -> list[dict]:
    """Lines of training and evaluation, without times."""
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows if row["kind"] != "event"]


def last_state(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a run's last checkpoint."""
    return load_file(max((folder / "checkpoints").glob("step-*")) / "state.safetensors")


def differing(one: Path, other: Path) -> dict[str, str]:
    """What of two runs is not the same, by name, and how."""
    a, b = last_state(one), last_state(other)
    found = dict.fromkeys(set(a) ^ set(b), "only in one")
    for name in set(a) & set(b):
        same = a[name].shape == b[name].shape and a[name].dtype == b[name].dtype
        bits = [t.reshape(-1).view(torch.uint8) for t in (a[name], b[name])]
        if not same or not torch.equal(*bits):
            gap = float((a[name].double() - b[name].double()).abs().max()) if same else math.nan
            found[name] = f"up to {gap:.3g} apart"
    for file in ("weights.safetensors", "weights_raw.safetensors"):
        if (one / file).read_bytes() != (other / file).read_bytes():
            found[file] = "other bytes"
    lines = metrics(one), metrics(other)
    if len(lines[0]) != len(lines[1]):
        found["metrics.jsonl"] = f"{len(lines[0])} and {len(lines[1])} lines"
    elif wrong := [p["step"] for p, q in zip(*lines, strict=True) if p != q]:
        found["metrics.jsonl"] = f"lines of steps {wrong} differ"
    return found


def stopped_run(overrides: list[str], stops: list[int], after: list[str], steps: int) -> Path:
    """The run, ended after each of these steps and gone on with. after: further overrides from the first stop on."""
    for number, stop in enumerate(stops):
        fail = ["engine.fail_replica=0", f"engine.fail_step={stop}", f"checkpoint.every={stop}step"]
        try:
            runs.train(check([*overrides, *fail, *(after if number else [])]))
            raise SystemExit(f"the run was to end after step {stop}, and did not")
        except ReplicaError as error:
            if "rehearsed failure" not in error.report:
                raise
    return Path(runs.train(check([*overrides, f"checkpoint.every={steps}step", *after]))["run"])


def killed_run(overrides: list[str], seed: int) -> tuple[Path, int]:
    """The run, killed at random moments until one start comes to its end; and how often it was."""
    draw, kills = random.Random(seed), 0
    command = [sys.executable, "-m", "xlatrain", "train", *overrides, "checkpoint.every=3step"]
    folder = Path(next(o for o in overrides if o.startswith("run.root=")).partition("=")[2]) / "stopped"
    longest = 120.0  # seconds until the first checkpoint of a start
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        seen = list(folder.glob("checkpoints/step-*"))
        try:
            until = time.monotonic() + longest  # till it trains; then a moment more
            while process.poll() is None and time.monotonic() < until:
                if sorted(folder.glob("checkpoints/step-*")) != sorted(seen):
                    break
                time.sleep(0.02)
            process.wait(draw.random() * 1.5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            continue
        if process.returncode:
            raise SystemExit(process.stderr.read())
        return folder, kills


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--stops", default="11")
    parser.add_argument("--optimizer", default="sgd")
    parser.add_argument("--runtime", default="torch_xla")
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--then", action="append", default=[])
    parser.add_argument("--kill", choices=("random",))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments, more = parser.parse_known_args()
    steps, stops = arguments.steps, [int(stop) for stop in arguments.stops.split(",")]
    with tempfile.TemporaryDirectory() as root:
        overrides = [
            *EVERYTHING,
            f"optimizer={arguments.optimizer}",
            f"optimizer.lr={SMALL[arguments.optimizer]}",
            f"engine.runtime={arguments.runtime}",
            f"cluster.replicas={arguments.replicas}",
            f"train.duration={steps}step",
            f"train.seed={arguments.seed}",
            f"run.root={root}",
            *more,
        ]
        whole = Path(runs.train(check([*overrides, "run.name=whole", f"checkpoint.every={steps}step"]))["run"])
        named = [*overrides, "run.name=stopped"]
        if arguments.kill:
            stopped, kills = killed_run(named, arguments.seed)
        else:
            stopped, kills = stopped_run(named, stops, arguments.then, steps), len(stops)
        found = differing(whole, stopped)
        tensors = last_state(whole)
        losses = [[row["loss"] for row in metrics(f) if row["kind"] == "train"] for f in (whole, stopped)]
    apart = max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True))
    how = "killed" if arguments.kill else "stopped"
    then = f", then {' '.join(arguments.then)}" if arguments.then else ""
    print(f"{arguments.optimizer} on {arguments.runtime}, {arguments.replicas} replicas{then}, {steps} steps, {how} "
          f"{kills} times: losses up to {apart:.1e} apart")  # fmt: skip
    for name in [*sorted(tensors), "weights.safetensors", "weights_raw.safetensors", "metrics.jsonl"]:
        print(f"  {name:24} {found.get(name, 'the same bits')}")
    if arguments.json:
        write_json(arguments.json, {**vars(arguments), "json": None, "kills": kills, "apart": apart, "differ": found})
    return 1 if found and not arguments.then else 0


if __name__ == "__main__":
    sys.exit(main())
