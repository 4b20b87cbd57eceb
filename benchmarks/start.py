"""From a command to its first step: where the seconds go.

    python benchmarks/start.py [--runs 5] [--other CHECKOUT] [--json FILE] [any xlatrain override ...]

Runs `xlatrain train train.duration=1step`, each time in processes of its own, as it is typed, and takes the times at
which it comes where (start_marks/). With --other the same command of another checkout in turn with it, and the ratios
of the medians. A first run of each fills caches and does not count. The parts follow each other:

imports      Python, and what the command imports before it can check
checking     until the run is checked
to launch    its folder, and what else there is before replicas are launched
to replicas  until the first replica has its device: processes, and what they import
building     the model, the state on the devices, replicas compared
to trace     the rest before the train step is traced: tables, data, the first batch
tracing      the train step on all replicas, without compiling
compiling    the train step, by XLA
first step   until what it reported is read

not compiling: all of them but that one. wrong: `xlatrain train train.globl_batch=64`, until it has told that there is
no such option.

Evidence: `--runs 3 --other CHECKOUT model._target_=tests.nets.Small`, the other the one before processes were forked
(ff2eae6), 2 CPU cores with nothing else on them, torch 2.9.1, Python 3.11, 28 Nov 2026: not compiling 5.19 s here,
12.64 s there, ratio 0.41; wrong 1.22 s here, 5.42 s there. The parts are in docs/performance.md.
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from xlatrain.files import write_json

HERE = Path(__file__).resolve().parent.parent
MARKS = Path(__file__).resolve().parent / "start_marks"
# Each part begins where the one before ends.
PARTS = (
    ("imports", "imported"),
    ("checking", "checked"),
    ("to launch", "launch"),
    ("to replicas", "replica"),
    ("building", "state"),
    ("to trace", "capture"),
    ("capture", "captured"),
    ("first step", "first step"),
)
WRONG = "train.globl_batch=64"


def run(checkout: Path, arguments: list[str], root: str, marks: Path) -> tuple[float, float, int]:
    """When a command began and when it had ended, and its exit code."""
    environment = {**os.environ, "PYTHONPATH": f"{MARKS}:{checkout}", "XLATRAIN_MARKS": str(marks)}
    command = [sys.executable, "-m", "xlatrain", "train", *arguments, f"run.root={root}"]
    started = time.time()
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    ended = time.time()
    if done.returncode not in (0, 2):
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
    return started, ended, done.returncode


def measure(checkout: Path, overrides: list[str], root: str) -> dict[str, float]:
    """Seconds of each part, of all that is not compiling, and of a command that is wrong."""
    marks = Path(root) / "marks"
    marks.write_text("")
    started, ended, code = run(checkout, [*overrides, "train.duration=1step"], root, marks)
    if code:
        raise SystemExit("the command is wrong: try it as xlatrain train")
    at, compiling = {}, 0.0
    for line in marks.read_text().splitlines():
        when, _, name = line.split(maxsplit=2)
        name, added = name.rsplit(maxsplit=1)
        if name == "compile":  # of the train step: others come before and after it
            compiling += float(added) if "capture" in at and "captured" not in at else 0.0
        else:
            at.setdefault(name, float(when))
    found, before = {}, started
    for part, name in PARTS:
        found[part], before = at[name] - before, at[name]
    found["compiling"] = compiling
    found["tracing"] = found.pop("capture") - compiling
    found["first step"] = found.pop("first step")
    found["not compiling"] = before - started - compiling
    found["all"] = before - started
    found["to the end"] = ended - before
    started, ended, code = run(checkout, [WRONG], root, marks)
    return found | {"wrong": ended - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--other", type=Path, help="another checkout of xlatrain")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options, overrides = parser.parse_known_args()
    checkouts = {"here": HERE} | ({"other": options.other.resolve()} if options.other else {})
    times: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as root:
        for number in range(options.runs + 1):
            for name, checkout in checkouts.items():
                found = measure(checkout, overrides, root)
                said = "  ".join(f"{part} {seconds:.2f}" for part, seconds in found.items())
                print(f"run {number} {name}: {said}", file=sys.stderr, flush=True)
                if number:
                    times[name].append(found)
    medians = {n: {part: statistics.median(t[part] for t in of) for part in of[0]} for n, of in times.items()}
    for part in medians["here"]:
        spread = [t[part] for t in times["here"]]
        line = f"{part:13} {medians['here'][part]:7.2f} s  ({min(spread):.2f} to {max(spread):.2f})"
        if options.other:
            line += f"   other {medians['other'][part]:7.2f} s"
        print(line)
    if options.other:
        for part in ("not compiling", "all", "wrong"):
            print(f"{part}: here / other {medians['here'][part] / medians['other'][part]:.2f}")
    if options.json:
        write_json(options.json, {"medians": medians, "runs": times, "overrides": overrides})


if __name__ == "__main__":
    main()
