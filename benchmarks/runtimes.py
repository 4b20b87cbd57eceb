"""The same run by both runtimes, side by side: images a second, and what a step costs the host.

    python benchmarks/runtimes.py [--runs 3] [--json FILE] [any xlatrain override ...]

The digits demo with 8 replicas, and EfficientNet-B0 at 64 pixels with 4, each by torch_xla and by jax in turn, each
time in a process of its own; medians over the runs, of what summary.json says of the steps after the warm-up. The
programs are the same: traced once by torch_xla, compiled by the XLA of either runtime.

Evidence: EVIDENCE
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import xlatrain
from xlatrain.files import write_json

RUNTIMES = ("torch_xla", "jax")
CASES = {
    "digits": ["train.duration=80step", "train.eval_every=80step"],
    "efficientnet_b0": [
        "model=efficientnet_b0",
        "data=synthetic",
        "augment=none",
        "data.image_size=64",
        "data.num_classes=100",
        "data.val_examples=64",
        "cluster.replicas=4",
        "train.global_batch=64",
        "train.duration=16step",
        "train.eval_every=16step",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options, overrides = parser.parse_known_args()
    found = {}
    with tempfile.TemporaryDirectory() as root:
        for case, setting in CASES.items():
            rows: dict[str, list[dict]] = {runtime: [] for runtime in RUNTIMES}
            for _ in range(options.runs):
                for runtime in RUNTIMES:
                    command = [*setting, f"engine.runtime={runtime}", f"run.root={root}", *overrides]
                    rows[runtime].append(xlatrain.train(command))
            found[case] = {
                runtime: {
                    key: statistics.median(row[key] for row in rows[runtime])
                    for key in ("images_per_second", "host_ms_per_step", "capture_seconds", "loss")
                }
                for runtime in RUNTIMES
            }
            for runtime, figures in found[case].items():
                print(f"{case:16} {runtime:10} " + "  ".join(f"{k} {v:,.4g}" for k, v in figures.items()))
            speed = {runtime: figures["images_per_second"] for runtime, figures in found[case].items()}
            print(f"{case:16} jax / torch_xla {speed['jax'] / speed['torch_xla']:.2f} of its images/s")
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
