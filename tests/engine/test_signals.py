"""A run that is stopped, at whatever moment, ends soon, with what it is saved, and leaves nothing behind; two of one
name keep apart."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm
from tests.nets import SMALL
from tests.waiting import wait_for
from xlatrain.xla.heartbeat import STEP, read

pytestmark = pytest.mark.replicas

LONG = [
    *("train.duration=4000step", "train.log_every=1step", "train.global_batch=16", "cluster.replicas=2"),
    *(SMALL, "run.name=r"),
]
SAVED = "all of it is saved; the same command with run.name=r goes on"
ROOT = Path(__file__).parents[2]


def start(folder, *overrides):
    return warm.command("train", *LONG, *overrides, cwd=folder, environment={"TMPDIR": str(folder)})


def start_cold(folder, *overrides):
    """As a user does: where it matters what its processes are, or what they do while they import."""
    with folder.with_suffix(".err").open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "xlatrain", "train", *LONG, *overrides],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
        )


def said(folder):
    """What a command has said so far."""
    return folder.with_suffix(".err").read_text()


def left_behind(folder):
    """The commands of processes that still have the folder as theirs, by /proc."""
    found = []
    for number in numbers(folder):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def numbers(folder):
    """Their process numbers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "cwd") == str(folder):
                found.append(int(process.name))
    return found


def process_of(replica, folder):
    """The process number of a replica's process."""
    (found,) = [beat.pid for beat in read(folder / "runs/r/heartbeats") if replica in beat.replicas]
    return found


def beats(folder):
    return "".join(path.read_text() for path in folder.glob("runs/r/heartbeats/*.json"))


def metrics(folder):
    path = folder / "runs/r/metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def imports_torch(number):
    with contextlib.suppress(OSError):
        return b"libtorch_cpu" in Path(f"/proc/{number}/maps").read_bytes()
    return False


def log(folder):
    path = folder / "runs/r/train.log"
    return path.read_text() if path.exists() else ""


MOMENTS = {
    "importing": lambda process, folder: any(map(imports_torch, numbers(folder))),
    "claimed": lambda process, folder: (folder / "runs/r/.lock").exists(),
    # A process of replicas has said so, in the folder that it shares with the command.
    "spawned": lambda process, folder: bool(list(folder.glob("*/xlatrain-*/group-*"))),
    "compiling": lambda process, folder: "compiling the train step" in log(folder),
    # As a scheduler may do it, to the workers too.
    "everywhere": lambda process, folder: len(metrics(folder)) > 2,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_any_moment_ends_the_run(tmp_path, moment):
    if moment == "compiling":  # long enough to be met in it
        process = start(tmp_path, "data.workers=2", "model._target_=null")
    else:
        process = start_cold(tmp_path, "data.workers=2")
    wait_for(lambda: MOMENTS[moment](process, tmp_path))
    if moment == "everywhere":
        for number in numbers(tmp_path):
            os.kill(number, signal.SIGTERM)
    else:
        os.kill(process.pid, signal.SIGTERM)
    process.wait(timeout=20)
    early = moment in ("importing", "claimed")  # Python's own way to end, before anything was begun
    assert process.returncode in ((75, 143, -signal.SIGTERM) if early else (75,))
    wait_for(lambda: not left_behind(tmp_path), 10)
    if early:
        return
    summary = json.loads((tmp_path / "runs/r/summary.json").read_text())
    last = said(tmp_path).splitlines()[-1]
    assert (summary["status"], summary["stopped_by"]) == ("stopped", "SIGTERM")
    if moment == "everywhere":
        assert last == f"stopped by SIGTERM after step {summary['steps']} of 4,000: {SAVED}"
        assert (tmp_path / f"runs/r/checkpoints/step-{summary['steps']:09}").exists()
        assert json.loads(metrics(tmp_path)[-1])["event"] == "stopped"
    else:
        assert last == "stopped by SIGTERM before it took a step: there was nothing to save"
        assert summary["steps"] == 0


def test_a_second_signal_ends_a_run_at_once(tmp_path):
    """One that hangs, so that the first does nothing."""
    process = start(tmp_path, "engine.fail_replica=1", "engine.fail_step=2", "engine.fail_how=hang")
    wait_for(lambda: '"step": 3' in beats(tmp_path))
    os.kill(process.pid, signal.SIGTERM)
    wait_for(lambda: "stopping (SIGTERM)" in said(tmp_path))
    os.kill(process.pid, signal.SIGINT)
    process.wait(timeout=10)
    assert process.returncode == 130
    wait_for(lambda: not left_behind(tmp_path), 10)


@pytest.mark.parametrize("to", ["parent", "child"])
def test_a_signal_ends_all_processes_of_a_run_after_the_same_step(tmp_path, to):
    process = start(tmp_path, "engine.runtime=jax", "cluster.processes_per_host=2", "engine.in_flight=3")
    wait_for(lambda: len(metrics(tmp_path)) > 2)
    if to == "parent":
        os.kill(process.pid, signal.SIGTERM)
    else:
        os.kill(process_of(1, tmp_path), signal.SIGTERM)
    process.wait(timeout=20)
    assert process.returncode == 75
    steps = json.loads((tmp_path / "runs/r/summary.json").read_text())["steps"]
    assert f"stopped by SIGTERM after step {steps} of 4,000: {SAVED}" == said(tmp_path).splitlines()[-1]
    places = [place for beat in read(tmp_path / "runs/r/heartbeats") for place in beat.replicas.values()]
    assert [place.step for place in places] == [steps] * 2
    assert json.loads(metrics(tmp_path)[-1])["step"] == steps
    wait_for(lambda: not left_behind(tmp_path), 10)


HANGS = {
    "a thread": ["engine.fail_replica=1", "engine.fail_step=3", "engine.fail_how=hang", "engine.stall_after=3"],
    "a thread of another process": [
        *("engine.fail_replica=1", "engine.fail_step=3", "engine.fail_how=hang", "engine.stall_after=3"),
        *("engine.runtime=jax", "cluster.processes_per_host=2"),
    ],
    "a process": ["engine.runtime=jax", "cluster.processes_per_host=2", "engine.stall_after=5"],
}


@pytest.mark.parametrize("what", HANGS)
def test_a_run_that_hangs_is_ended_and_who_hangs_is_named(tmp_path, what):
    process = start(tmp_path, *HANGS[what])
    if what == "a process":
        beats = tmp_path / "runs/r/heartbeats"
        wait_for(lambda: {n: p.phase for b in read(beats) for n, p in b.replicas.items()} == {0: STEP, 1: STEP})
        frozen = process_of(1, tmp_path)
        os.kill(frozen, signal.SIGSTOP)
    process.wait(timeout=60)
    assert process.returncode == 1
    words = said(tmp_path)
    assert "the run hangs: nothing moved for" in words
    if what == "a process":
        assert f"process {frozen} is stopped, as by SIGSTOP" in words
        assert f"no stacks of process {frozen}: it is stopped" in log(tmp_path)
    else:
        last = words.splitlines()[-1]
        assert last.startswith("replica 1 (pid ")
        assert last.endswith("is behind: last seen in step 3, others in step 4")
        assert re.search(r"of replica 1 .*\n(.*\n)?.*\n.*in rehearse", log(tmp_path))
        assert "of replica 0 " in log(tmp_path)
    assert words.splitlines()[-1] == log(tmp_path).splitlines()[-1]
    wait_for(lambda: not left_behind(tmp_path), 10)


@pytest.mark.parametrize("overrides", [["engine.fail_replica=1", "engine.fail_step=3"], ["kill"]])
def test_a_failing_or_killed_run_takes_its_loaders_with_it(tmp_path, overrides):
    killed = overrides == ["kill"]
    process = (start_cold if killed else start)(tmp_path, "data.workers=2", *([] if killed else overrides))
    if killed:
        wait_for(lambda: len(metrics(tmp_path)) > 2)
        process.kill()
    process.wait(timeout=60)
    wait_for(lambda: not left_behind(tmp_path), 15)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]  # no temporary files, which the children clear


def test_what_a_run_leaves_that_was_killed_with_all_its_children_the_next_command_clears(tmp_path):
    process = start_cold(tmp_path)
    wait_for(lambda: len(metrics(tmp_path)) > 2)
    for number in sorted(numbers(tmp_path), reverse=True):  # children first
        with contextlib.suppress(OSError):
            os.kill(number, signal.SIGKILL)
    process.wait(timeout=20)
    assert len(list(tmp_path.iterdir())) == 2
    start(tmp_path, "no.such=option").wait(timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_second_run_of_the_same_name_is_refused_while_the_first_goes_on(tmp_path):
    first = start(tmp_path)
    wait_for(lambda: (tmp_path / "runs/r/.lock").exists())
    second = start(tmp_path, "train.seed=2")  # whose words take the place of the first's
    second.wait(timeout=60)
    assert second.returncode == 2
    assert "is going on" in said(tmp_path)
    os.kill(first.pid, signal.SIGTERM)
    first.wait(timeout=20)
    assert "seed: 0" in (tmp_path / "runs/r/config.yaml").read_text()
