"""One model, one number of epochs, batches from small to the whole training set: which optimizer still learns?

    python benchmarks/large_batch.py [--json FILE] [--png FILE] [--epochs 25] [--seeds 0,1]
                                     [--batches 64,256,718,1437] [any xlatrain override ...]

SGD with linear scaling, LARS, and LAMB with LEGW, each tuned by nothing but its rule, from a base at batch 64. Digits
by default; data=shards data.root=FOLDER takes others (name --batches that suit). Rows: {optimizer, batch, seed, top1}.

Evidence: command as above, 2 CPU cores kept busy by other jobs, 14 min 20 s, 20 Nov 2026, test_efficientnet, 25 epochs,
2 seeds; mean top-1 of 360 digits (before epochs counted every image: 550 steps at 64 and 125 at 256, now 561, 140):

    batch  sgd + linear    lars  lamb + legw
       64        0.9958  0.9958       0.9972
      256        0.9931  0.9944       0.9972
      718        0.9556  0.9208       0.9944
     1437        0.1889  0.3861       0.9694     the whole training set: 25 steps in all

LARS does no better than SGD at 718 and little at the full batch, which the papers' tuned runs at ImageNet's size do not
show. Tried at the full batch with one seed: LEGW with a base of 2 and of 4 (0.41, 0.40), a base of 1 and of 4 with the
square root (0.41, 0.23): not its base rate. Not run: ImageNet or CIFAR-10.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from xlatrain.drawing import pyplot
from xlatrain.engine import run as runs
from xlatrain.files import write_json
from xlatrain.preflight.check import check

BASE = 64
# A rule and its base each. LARS has no scaling rule in its paper; the square root is what LEGW pairs it with.
OPTIMIZERS = {
    "sgd + linear": ["optimizer=sgd", "scaling.rule=linear", "scaling.base_lr=0.05", "schedule=cosine"],
    "lars": ["optimizer=lars", "scaling.rule=sqrt", "scaling.base_lr=2.0", "schedule=polynomial"],
    "lamb + legw": ["optimizer=lamb", "scaling.rule=legw", "scaling.base_lr=0.005", "schedule=polynomial"],
}
WARMUP = {"sgd + linear": "2ep", "lars": "2ep", "lamb + legw": "0.5ep"}


def top1(name: str, batch: int, seed: int, epochs: int, more: list[str], root: str) -> float:
    """Train once; the accuracy at the end."""
    overrides = [
        *OPTIMIZERS[name], f"scaling.base_batch={BASE}", f"scaling.base_warmup={WARMUP[name]}",
        f"train.global_batch={batch}", f"train.seed={seed}", f"train.duration={epochs}ep",
        f"train.eval_every={epochs}ep", "cluster.replicas=1", "ema=off", f"run.root={root}", *more,
    ]  # fmt: skip
    return runs.train(check(overrides), name=f"{name}-{batch}-{seed}".replace(" ", ""))["top1"]


def draw(rows: list[dict], path: Path) -> None:
    """Top-1 against batch, a line for each optimizer, its seeds as dots."""
    figure, axes = pyplot().subplots(figsize=(7, 4.5), layout="constrained")
    for name in OPTIMIZERS:
        mine = [r for r in rows if r["optimizer"] == name]
        batches = sorted({r["batch"] for r in mine})
        means = [statistics.fmean(r["top1"] for r in mine if r["batch"] == b) for b in batches]
        (line,) = axes.plot(batches, means, label=name)
        axes.plot([r["batch"] for r in mine], [r["top1"] for r in mine], "o", color=line.get_color(), markersize=4)
    axes.set(xscale="log", xlabel="batch", ylabel="top-1", title="the same epochs, larger batches")
    axes.set_xticks(batches, [str(b) for b in batches])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--png", type=Path, default=Path("large_batch.png"))
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--batches", default="64,256,718,1437")
    arguments, more = parser.parse_known_args()
    seeds, batches = ([int(v) for v in text.split(",")] for text in (arguments.seeds, arguments.batches))
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for batch in batches:
            for name in OPTIMIZERS:
                for seed in seeds:
                    found = top1(name, batch, seed, arguments.epochs, more, root)
                    rows.append({"optimizer": name, "batch": batch, "seed": seed, "top1": found})
                    print(f"{name:14} batch {batch:5} seed {seed}: {found}", flush=True)
    print(f"\ntop-1 after {arguments.epochs} epochs, mean of seeds {arguments.seeds}")
    print(f"{'batch':>8}  " + "  ".join(f"{name:>14}" for name in OPTIMIZERS))
    for batch in batches:
        means = [
            statistics.fmean(r["top1"] for r in rows if (r["optimizer"], r["batch"]) == (n, batch)) for n in OPTIMIZERS
        ]
        print(f"{batch:8}  " + "  ".join(f"{m:14.4f}" for m in means))
    draw(rows, arguments.png)
    if arguments.json:
        write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
