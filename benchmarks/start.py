"""How long a command takes to the start of its replicas: imports, composing, checking, the run's folder.

    python benchmarks/start.py [--runs 5] [--other CHECKOUT] [any xlatrain override ...]

Runs `xlatrain train`, each time in a process of its own, up to the call that would spawn the replicas, which is left
out. With --other the same command of another checkout in turn with it, and the ratio of the medians.

Evidence: the command as above, the other checkout the one before files moved to rooms and runs were checked once
(4952cbe~1), 2 CPU cores with other jobs waiting beside, torch 2.9.1, 24 Nov 2026, 5 runs each after one:
here 3.22 s (3.09 to 3.33), other 3.37 s (3.08 to 3.82), ratio 0.96. Imports of torch and timm are 2.2 s of it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
# Of any version of xlatrain: what is launched is always called by this name.
COMMAND = """
import os, runpy, sys, time
import xlatrain.xla.launch as launcher

def launch(*arguments, **named):
    print(time.time(), flush=True)
    os._exit(0)

launcher.launch = launch
sys.argv[0] = "xlatrain"
runpy.run_module("xlatrain", run_name="__main__")
"""


def seconds_to_start(checkout: Path, overrides: list[str], root: str) -> float:
    """Seconds from the start of a process to the call that would spawn its replicas."""
    command = [sys.executable, "-c", COMMAND, "train", *overrides, f"run.root={root}"]
    started = time.time()
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        cwd=root,
        capture_output=True,
        text=True,
    )
    if done.returncode or not done.stdout:
        raise SystemExit(f"it did not come to its start:\n{done.stderr}")
    return float(done.stdout.split()[-1]) - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--other", type=Path, help="another checkout of xlatrain")
    options, overrides = parser.parse_known_args()
    checkouts = {"here": HERE} | ({"other": options.other.resolve()} if options.other else {})
    times: dict[str, list[float]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as root:
        for run in range(options.runs + 1):
            for name, checkout in checkouts.items():
                taken = seconds_to_start(checkout, overrides, root)
                if run:  # the first fills caches
                    times[name].append(taken)
    for name, taken in times.items():
        print(f"{name:6} {statistics.median(taken):.2f} s  ({min(taken):.2f} to {max(taken):.2f}, {len(taken)} runs)")
    if options.other:
        print(f"here / other {statistics.median(times['here']) / statistics.median(times['other']):.2f}")


if __name__ == "__main__":
    main()
