"""What holds for every test."""

import subprocess

import pytest

from xlatrain.xla import launch


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test that starts replicas without saying so fails: `make quick` leaves out those that say so, and runs others
    two at a time, which replicas of one machine do not bear."""
    if item.get_closest_marker("replicas"):
        return (yield)

    def refuse(*arguments, **named):
        pytest.fail("this test starts replicas: mark it with pytest.mark.replicas")

    class Popen(subprocess.Popen):
        def __init__(self, args, *rest, **named):
            if "xlatrain" in args:
                refuse()
            super().__init__(args, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_environment", refuse)
        patch.setattr(subprocess, "Popen", Popen)
        return (yield)
