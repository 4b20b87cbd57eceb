"""What holds for every test."""

import os
import subprocess

import pytest

from xlatrain.xla import launch

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers fill the cores; threads of each would wait for one another
# XLA then takes a third of the time to compile a step for this CPU, of which tests have few steps to run.
QUICK_COMPILE = "--xla_backend_optimization_level=0"
os.environ.setdefault("XLA_FLAGS", QUICK_COMPILE)
STARTS = {"train", "eval", "plan", "bench", "export"}  # verbs that start replicas


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test that starts replicas without saying so fails: `make quick` leaves out those that say so, and those of
    several replicas run alone, since on two cores two of them keep each other waiting until XLA gives up."""
    if item.get_closest_marker("replicas"):
        return (yield)
    one = item.get_closest_marker("one_replica") is not None
    environment = launch._environment

    def refuse(platform, replicas, more):
        if one and replicas == 1:
            return environment(platform, replicas, more)
        return pytest.fail("this test starts replicas: mark it with pytest.mark.replicas")

    class Popen(subprocess.Popen):
        def __init__(self, args, *rest, **named):
            if "xlatrain" in args and STARTS & {*args} and not one:
                refuse("cpu", 1, {})
            super().__init__(args, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_environment", refuse)
        patch.setattr(subprocess, "Popen", Popen)
        return (yield)


@pytest.fixture
def optimized(monkeypatch):
    """Programs are compiled as those of users, for tests of many steps and of what was promised to the digit."""
    if os.environ["XLA_FLAGS"] == QUICK_COMPILE:
        monkeypatch.delenv("XLA_FLAGS")
