"""Both runtimes side by side: images per second, and what the host does for a step, in turns in one go.

    python benchmarks/runtimes.py [--rounds 3] [--json FILE] [any xlatrain override ...]

Whole runs of 60 steps of the digits demo, or of what the overrides name, of each runtime in turn, on one CPU; the first
3 steps of a run do not count. With several replicas the host's time for a step holds the wait for the other threads.

Evidence: the command with --rounds 2 cluster.replicas=8, 2 CPU cores that had other work too, torch-xla 2.9.0, jax
0.7.1, 24 Nov 2026: torch_xla 1060 images/s, jax 1366 (1.29), host 3.0 and 14.3 ms a step. On one replica, one run each,
batch 16: 493 and 846 images/s, host 1.8 and 1.2 ms. Not run: EfficientNet-B0; several processes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from xlatrain.engine import run as runs
from xlatrain.files import write_json
from xlatrain.preflight.check import check

RUNTIMES = ("torch_xla", "jax")
SETTING = ["train.duration=60step", "train.eval_every=60step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments, more = parser.parse_known_args()
    found: dict[str, list[dict]] = {runtime: [] for runtime in RUNTIMES}
    with tempfile.TemporaryDirectory() as root:
        for number in range(arguments.rounds):
            for runtime in RUNTIMES:
                checked = check([*SETTING, *more, f"engine.runtime={runtime}", f"run.root={root}"])
                summary = runs.train(checked, f"{runtime}-{number}")
                figures = {k: summary[k] for k in ("images_per_second", "host_ms_per_step", "capture_seconds")}
                found[runtime].append(figures)
    result = {
        runtime: {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        for runtime, rows in found.items()
    }
    for runtime, figures in result.items():
        print(f"{runtime:10}", ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    ratio = result["jax"]["images_per_second"] / result["torch_xla"]["images_per_second"]
    print(f"jax / torch_xla: {ratio:.2f} of the images per second, medians of {arguments.rounds}")
    if arguments.json:
        write_json(arguments.json, {"medians": result, "runs": found})


if __name__ == "__main__":
    main()
