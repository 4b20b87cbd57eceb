"""What holds for every test."""

import os
import subprocess

import pytest

from tests import warm
from xlatrain.xla import launch

# XLA then takes a third of the time to compile a step for this CPU, of which tests have few steps to run.
QUICK_COMPILE = "--xla_backend_optimization_level=0"
os.environ.setdefault("XLA_FLAGS", QUICK_COMPILE)
STARTS = {"train", "eval", "predict", "plan", "bench", "export"}  # verbs that start replicas


def pytest_configure(config):
    warm.prepare_nothing()
    if "not one_replica" not in config.option.markexpr:  # else no replicas start, and what the server imports is lost
        warm.start_server()


def pytest_collection_modifyitems(items):
    """What takes longest comes first: the workers then end at about the same time."""
    dear = {"test_signals.py": 0, "test_gradient.py": 1, "test_runtimes.py": 2, "test_combinations.py": 3}
    items.sort(key=lambda item: (dear.get(item.path.name, 4), item.get_closest_marker("replicas") is None))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test that starts replicas without saying so fails: `make quick` leaves out those that say so."""
    if item.get_closest_marker("replicas"):
        return (yield)
    most = 1 if item.get_closest_marker("one_replica") else 0
    environment, popen = launch._environment, subprocess.Popen

    def allow(replicas):
        if replicas > most:
            pytest.fail(f"this test starts {replicas} replicas: mark it with pytest.mark.replicas")

    def checked_environment(platform, replicas, more):
        allow(replicas)
        return environment(platform, replicas, more)

    class CheckedPopen(popen):
        def __init__(self, args, *rest, **named):
            if "xlatrain" in args and STARTS & {*args}:
                allow(1)  # or more: that is told to another process
            super().__init__(args, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_environment", checked_environment)
        patch.setattr(subprocess, "Popen", CheckedPopen)
        return (yield)


@pytest.fixture
def cold():
    """Processes of replicas start as those of users do, and read the environment when they import torch_xla."""
    with warm.cold():
        yield


@pytest.fixture
def optimized(cold, monkeypatch):
    """Programs are compiled as those of users, for a test of many steps."""
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace(QUICK_COMPILE, ""))  # torch_xla adds its own
