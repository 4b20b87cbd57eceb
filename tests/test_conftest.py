"""What holds for every test does hold."""

import subprocess
import sys

import pytest

from xlatrain.xla.launch import launch


def test_a_test_without_the_mark_cannot_start_replicas():
    with pytest.raises(pytest.fail.Exception, match="mark it"):
        launch("tests.replica_jobs:run_errors", replicas=1)
    with pytest.raises(pytest.fail.Exception, match="mark it"):
        subprocess.run([sys.executable, "-m", "xlatrain", "train"])
