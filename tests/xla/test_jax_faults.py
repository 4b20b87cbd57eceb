"""Processes of JAX's runtime end together, however one of them ends, and say which it was; nothing is left running."""

import multiprocessing
import time

import pytest

from xlatrain.errors import ReplicaError
from xlatrain.xla import jax_start
from xlatrain.xla.jax_start import Hosts
from xlatrain.xla.launch import launch

pytest.importorskip("jax")
pytestmark = pytest.mark.replicas


def failure(how, **named):
    started = time.monotonic()
    with pytest.raises(ReplicaError) as error:
        launch("tests.replica_jobs:fail_by", how, replicas=4, runtime="jax", processes=2, **named)
    assert not multiprocessing.active_children()
    return error.value.report.strip(), time.monotonic() - started


def test_a_replica_of_the_second_process_that_raises_ends_all_with_its_traceback_last():
    report, _ = failure("raise")
    assert report.startswith("replica 3 failed")
    assert report.splitlines()[-1] == "RuntimeError: this replica is the one that fails"


def test_a_process_that_is_killed_is_named():
    report, _ = failure("kill")
    assert report.startswith("process 1 of 2")
    assert "SIGKILL" in report


def test_a_process_that_hangs_is_named(monkeypatch):
    monkeypatch.setattr(jax_start, "HEARTBEAT_SECONDS", 5)
    report, seconds = failure("stop")
    assert "process 0 of 2" in report
    assert "and 1 did not end" in report
    assert seconds < 60


def test_who_does_not_arrive_is_named(monkeypatch):
    """The other machine's command was never started."""
    monkeypatch.setattr(jax_start, "ARRIVAL_SECONDS", 5)
    report, seconds = failure("raise", hosts=Hosts(2, 0, f"127.0.0.1:{jax_start.free_port()}"))
    assert report.splitlines()[-1] == "TimeoutError: processes 2, 3 of 4 did not arrive in 5 s"
    assert seconds < 60
