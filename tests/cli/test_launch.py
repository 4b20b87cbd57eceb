"""What `xlatrain launch` prints of machines that are there."""

import os
import signal

import pytest

from tests.launching.played import on_stage
from xlatrain.cli.launch import _ask, _ends
from xlatrain.cli.main import main
from xlatrain.errors import EXIT_DONE, EXIT_FAILED
from xlatrain.launching.until_done import Hangup
from xlatrain.signals import handled

PLACE = ["cluster=tpu_v4_32", "launch.zone=us-central2-b", "launch.name=b2"]
WELL = {"step": 1204}
DELETE = "  gcloud compute tpus queued-resources delete b2 --zone=us-central2-b --force --quiet"


@pytest.fixture
def stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda looks=(), exists=True: on_stage(tmp_path, monkeypatch, PLACE if exists else (), looks)


def test_status_has_a_line_for_each_worker_and_names_those_that_are_not_well(stage, capsys):
    silent, late = {**WELL, "sick": ["t1v-w-1:311 is silent, in step 1,180"]}, {"step": 1202, "idle": 41.0}
    stage([[[{**WELL, "idle": 40.0}, silent, late, {"state": "died"}]]])
    assert main(["launch", "status", *PLACE]) == EXIT_FAILED
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "worker 0: running, step 1,204",
        "worker 1: running, step 1,204; t1v-w-1:311 is silent, in step 1,180",
        "worker 2: running, step 1,202; behind: in step 1,202, others in 1,204",
        "worker 3: died",
    ]
    assert "b2 exists: ACTIVE, 51.52 USD an hour; spent: 0.00 USD" in said.err
    assert said.err.splitlines()[-1] == DELETE


def test_status_of_what_is_well(stage, capsys):
    stage([[WELL]])
    assert main(["launch", "status", *PLACE]) == EXIT_DONE
    assert "worker 3: running, step 1,204" in capsys.readouterr().out


def test_status_of_what_is_not_there(stage, capsys):
    stage(exists=False)
    assert main(["launch", "status", *PLACE]) == EXIT_DONE
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert "no machine is left; spent: 0.00 USD, 0.00 h" in said.err


def test_run_returns_the_exit_code_of_the_first_worker_that_ends_and_the_machine_stays(stage, capsys):
    failed = {"state": "ended", "code": 137, "said": "ValueError: x"}
    play = stage([[[WELL] * 4, [WELL, failed, WELL, WELL]]])
    assert main(["launch", "run", *PLACE]) == 137
    said = capsys.readouterr().err
    assert "worker 1 has ended with exit code 137" in said
    assert "the run failed on worker 1:\nValueError: x" in said
    assert play.machines == ["b2"]
    assert said.splitlines()[-1] == DELETE


def test_stop_tells_how_each_has_ended(stage, capsys):
    stage([[WELL]])
    assert main(["launch", "stop", *PLACE]) == EXIT_DONE
    assert capsys.readouterr().err.count(": ended, exit code 75") == 4


def test_a_launch_under_nohup_outlives_its_terminal():
    with handled([signal.SIGHUP], signal.SIG_IGN), _ends():
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(Hangup):
            os.kill(os.getpid(), signal.SIGTERM)
    with handled([signal.SIGHUP], signal.SIG_DFL), _ends(), pytest.raises(Hangup):
        os.kill(os.getpid(), signal.SIGHUP)


TYPED = [("y\n", True), (" YES \n", True), ("n\n", False), ("\n", False), (None, False)]


@pytest.mark.parametrize(("typed", "keeps"), TYPED)
def test_only_a_yes_keeps_machines_and_nobody_is_waited_for_for_long(typed, keeps, monkeypatch, capsys):
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "w") as terminal:
        monkeypatch.setattr("sys.stdin", stdin)
        terminal.write(typed or "")
        terminal.flush()
        assert _ask("Keep it? [y/N] ", 0.1) == keeps
    said = capsys.readouterr()
    assert said.out == "Keep it? [y/N] "
    assert ("no answer in 0.1 s" in said.err) == (typed is None)
