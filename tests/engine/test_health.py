"""How a run is, by its folder: going on, ended or dead; and what is noted in its course."""

import fcntl
import json
import os
import socket

import pytest

from xlatrain.cli.main import main
from xlatrain.engine.anomalies import Anomalies
from xlatrain.engine.health import look_at
from xlatrain.engine.run_folder import claimed_folder
from xlatrain.engine.unplanned import Unplanned
from xlatrain.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, CaptureError
from xlatrain.xla import heartbeat
from xlatrain.xla.heartbeat import EVALUATING, STEP, Heartbeat, Whereabouts

GONE = 2**22 + 1  # no process has such a number


def write(folder, *beats):
    heartbeat.clear(folder / "heartbeats")
    for beat in beats:
        heartbeat.write(folder / "heartbeats", beat)


def test_each_process_of_a_run_that_goes_on_is_judged(tmp_path):
    here = socket.gethostname()
    with claimed_folder(str(tmp_path), "r") as folder:
        write(
            folder,
            Heartbeat(here, os.getpid(), 99.0, dict.fromkeys((0, 1), Whereabouts(STEP, 9, since=98.0))),
            Heartbeat(here, GONE, 99.0, {2: Whereabouts(STEP, 9)}),
            Heartbeat("elsewhere", 5, 80.0, {3: Whereabouts(EVALUATING, 9, 4)}),
            Heartbeat("elsewhere", 6, 99.0, {4: Whereabouts(STEP, 3)}),
        )
        health = look_at(folder, 100.0)
    assert (health.status, health.step, health.is_well) == ("running", 9, False)
    assert [p.verdict for p in health.processes] == ["ok", "dead", "silent", "behind"]
    first = health.processes[0]
    assert (first.replicas, first.doing, first.idle, first.age) == ([0, 1], "in step 9", 2.0, 1.0)


@pytest.mark.parametrize(
    ("summary", "beats", "status", "said", "code"),
    [
        (None, [], "never begun", "", EXIT_DONE),
        (None, [Heartbeat("here", GONE, 1.0, {0: Whereabouts(STEP, 4)})], "died", "", EXIT_FAILED),
        ({"status": "done", "steps": 8}, [], "done", "", EXIT_DONE),
        ({"status": "stopped", "steps": 8, "stopped_by": "SIGTERM"}, [], "stopped", "SIGTERM", EXIT_DONE),
        ({"status": "failed", "steps": 3, "error": "it broke"}, [], "failed", "it broke", EXIT_FAILED),
    ],
)
def test_a_run_that_does_not_go_on_says_why(tmp_path, monkeypatch, capsys, summary, beats, status, said, code):
    folder = tmp_path / "runs/r"
    write(folder, *beats)
    if summary:
        (folder / "summary.json").write_text(json.dumps(summary))
    health = look_at(folder, 100.0)
    assert (health.status, health.said) == (status, said)
    assert health.step == (summary["steps"] if summary else 4 if beats else 0)
    monkeypatch.chdir(tmp_path)
    assert main(["status", "r"]) == code
    assert status in capsys.readouterr().out
    assert main(["status", "runs/r", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["status"] == status
    assert main(["status", "s"]) == EXIT_CONFIG
    assert "there is no folder s" in capsys.readouterr().err


def test_looking_does_not_keep_a_run_from_its_folder(tmp_path):
    with claimed_folder(str(tmp_path), "r") as folder:
        look_at(folder, 0.0)
        with (folder / ".lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


def step(loss, in_a_row=0):
    return {"loss": loss, "skipped_in_a_row": float(in_a_row)}


def test_a_loss_far_above_those_before_is_one_event_until_it_is_over():
    anomalies = Anomalies(3.0)
    found = [anomalies.of_step(step(loss)) for loss in [9.0, 2.0, *[1.0] * 10, 2.9, 3.1, 50.0, float("nan"), 1.0, 4.0]]
    events = [event for of_step in found for event in of_step]
    assert {event["event"] for event in events} == {"loss_spike"}
    assert [(event["loss"], event["median"]) for event in events] == [(3.1, 1.0), (4.0, 1.0)]
    assert not any(Anomalies(None).of_step(step(loss)) for loss in [*[1.0] * 20, 1e9])


def test_each_update_that_is_left_out_is_an_event():
    anomalies = Anomalies(3.0)
    assert anomalies.of_step(step(float("nan"), 2)) == [{"event": "skipped_update", "in_a_row": 2}]
    assert anomalies.of_step(step(1.0)) == []


class Counted:
    """A replica as far as it counts."""

    def __init__(self, *counts):
        self.unplanned = lambda: counts[0] if len(self.left) == 0 else self.left.pop(0)
        self.left = list(counts)


def test_what_was_not_planned_is_said_once_or_is_an_error():
    said = []
    unplanned = Unplanned(Counted((1, 0), (1, 0), (2, 0), (5, 3), (9, 9)), False, said.append)
    for number in (10, 20, 30, 40):
        unplanned.look(number)
    assert [text.partition(": somewhere")[0] for text in said] == [
        "warning: unplanned: 1 compile up to step 20",
        "warning: unplanned: 3 device reads up to step 30",
    ]
    strict = Unplanned(Counted((0, 0), (0, 1)), True, said.append)
    with pytest.raises(CaptureError, match=r"unplanned: 1 device read up to step 7.*engine.strict=false"):
        strict.look(7)
