"""launch/rehearse.sh: a pod played by processes, one of its machines killed, replaced, gone on with, and done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")
ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.replicas
def test_a_rehearsed_pod_loses_a_machine_and_ends_with_the_weights_of_one_that_did_not(tmp_path):
    done = subprocess.run(
        ["bash", str(ROOT / "launch/rehearse.sh"), "2x4", str(tmp_path)],
        env={**os.environ, "PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    said = done.stdout
    assert done.returncode == 0, said
    undisturbed, killed = said.split("machine 1 killed in step 10:")
    assert "done: top-1" in undisturbed
    for text in ("try 1: asking", "WAITING_FOR_RESOURCES", "the machines are SUSPEND", "try 2: asking", "done: top-1"):
        assert text in killed, said
    assert killed.count("no machine is left; spent: ") == 1
    assert said.rstrip().endswith("weights: equal to the last bit")
