"""Both runtimes side by side: images per second, and what the host does for a step, in turns in one go.

    python benchmarks/runtimes.py [--rounds 3] [--rows digits,b0] [--json FILE] [any xlatrain override ...]

Whole runs of 60 steps of the digits demo, and of EfficientNet-B0 at 64 px on 4 replicas, of each runtime in turn, on
one CPU; the first 3 steps of a run do not count. With several replicas the host's time for a step holds the wait for
the other threads.

Evidence: the command with --rounds 2 cluster.replicas=8, 2 CPU cores that had other work too, torch-xla 2.9.0, jax
0.7.1, 24 Nov 2026: torch_xla 1060 images/s, jax 1366 (1.29), host 3.0 and 14.3 ms a step. On one replica, one run each,
batch 16: 493 and 846 images/s, host 1.8 and 1.2 ms. --rows b0 --rounds 1, 28 Nov 2026, cores that had much other work
(a load of 10 to 20): torch_xla 19.2 images/s, jax 18.3 (0.95), host 0.4 and 28 ms, the latter with the wait for other
threads; compiled in 198 and 114 s. Not run: several rounds of it on idle cores; several processes.
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
ROWS = {
    "digits": [],
    "b0": ["model=efficientnet_b0", "data.image_size=64", "cluster.replicas=4", "train.global_batch=32"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", default="digits,b0")
    parser.add_argument("--json", type=Path)
    arguments, more = parser.parse_known_args()
    results = {}
    for row in arguments.rows.split(","):
        found = measure([*SETTING, *ROWS[row], *more], arguments.rounds)
        medians = {
            runtime: {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}
            for runtime, rounds in found.items()
        }
        for runtime, figures in medians.items():
            print(f"{row:7} {runtime:10}", ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))
        ratio = medians["jax"]["images_per_second"] / medians["torch_xla"]["images_per_second"]
        print(
            f"{row:7} jax / torch_xla: {ratio:.2f} of the images per second, medians of {arguments.rounds}", flush=True
        )
        results[row] = {"medians": medians, "runs": found}
    if arguments.json:
        write_json(arguments.json, results)


def measure(overrides: list[str], rounds: int) -> dict[str, list[dict]]:
    """The figures of each round, by runtime."""
    found: dict[str, list[dict]] = {runtime: [] for runtime in RUNTIMES}
    with tempfile.TemporaryDirectory() as root:
        for number in range(rounds):
            for runtime in RUNTIMES:
                checked = check([*overrides, f"engine.runtime={runtime}", f"run.root={root}"])
                summary = runs.train(checked, f"{runtime}-{number}")
                figures = {k: summary[k] for k in ("images_per_second", "host_ms_per_step", "capture_seconds")}
                found[runtime].append(figures)
    return found


if __name__ == "__main__":
    main()
