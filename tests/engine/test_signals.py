"""A run that is stopped, at whatever moment, ends at once and leaves nothing behind; two of one name keep apart."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_for

pytestmark = pytest.mark.replicas

LONG = ["train.duration=4000step", "train.log_every=1step", "train.global_batch=16", "cluster.replicas=2", "run.name=r"]


def start(folder, *overrides):
    return subprocess.Popen(
        [sys.executable, "-m", "xlatrain", "train", *LONG, *overrides],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def left_behind(folder):
    """Processes that still have the folder as theirs, by /proc."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(folder):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def metrics(folder):
    path = folder / "runs/r/metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def imports_torch(process):
    return b"libtorch_cpu" in Path(f"/proc/{process.pid}/maps").read_bytes()


def log(folder):
    path = folder / "runs/r/train.log"
    return path.read_text() if path.exists() else ""


MOMENTS = {
    "importing": lambda process, folder: imports_torch(process),
    "claimed": lambda process, folder: (folder / "runs/r/.lock").exists(),
    "spawned": lambda process, folder: any("spawn_main" in command for command in left_behind(folder)),
    "compiling": lambda process, folder: "compiling the train step" in log(folder),
    "running": lambda process, folder: len(metrics(folder)) > 2,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_any_moment_ends_the_run(tmp_path, moment):
    process = start(tmp_path, "data.workers=2")
    wait_for(lambda: MOMENTS[moment](process, tmp_path))
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    assert process.returncode in (143, -signal.SIGTERM)
    wait_for(lambda: not left_behind(tmp_path), 10)
    if moment == "running":
        assert json.loads((tmp_path / "runs/r/summary.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("to", ["parent", "child"])
def test_a_signal_ends_all_processes_of_a_run(tmp_path, to):
    process = start(tmp_path, "engine.runtime=jax", "cluster.processes_per_host=2")
    wait_for(lambda: len(metrics(tmp_path)) > 2)
    if to == "parent":
        process.send_signal(signal.SIGTERM)
    else:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        replicas = [n for n in children if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()]
        os.kill(int(replicas[1]), signal.SIGTERM)
    process.wait(timeout=15)
    assert process.returncode == (143 if to == "parent" else 1)
    said = "stopped by signal 15" if to == "parent" else "was ended by SIGTERM"
    assert said in process.stderr.read().splitlines()[-1]
    wait_for(lambda: not left_behind(tmp_path), 10)


@pytest.mark.parametrize("overrides", [["engine.fail_replica=1", "engine.fail_step=3"], ["kill"]])
def test_a_failing_or_killed_run_takes_its_loaders_with_it(tmp_path, overrides):
    killed = overrides == ["kill"]
    process = start(tmp_path, "data.workers=2", *([] if killed else overrides))
    if killed:
        wait_for(lambda: len(metrics(tmp_path)) > 2)
        process.kill()
    process.wait(timeout=60)
    wait_for(lambda: not left_behind(tmp_path), 15)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]  # no temporary files, which the children clear


def test_what_a_run_leaves_that_was_killed_with_all_its_children_the_next_command_clears(tmp_path):
    process = start(tmp_path)
    wait_for(lambda: len(metrics(tmp_path)) > 2)
    for number in sorted((int(path.name) for path in Path("/proc").glob("[0-9]*")), reverse=True):  # children first
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{number}/cwd") == str(tmp_path):
                os.kill(number, signal.SIGKILL)
    process.wait(timeout=20)
    assert len(list(tmp_path.iterdir())) == 2
    start(tmp_path, "no.such=option").wait(timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_second_run_of_the_same_name_is_refused_while_the_first_goes_on(tmp_path):
    first = start(tmp_path)
    wait_for(lambda: (tmp_path / "runs/r/.lock").exists())
    second = start(tmp_path, "train.seed=2")
    second.wait(timeout=60)
    assert second.returncode == 2
    assert "is going on" in second.stderr.read()
    first.terminate()
    first.wait(timeout=20)
    assert "seed: 0" in (tmp_path / "runs/r/config.yaml").read_text()
