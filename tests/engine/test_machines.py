"""The same command, started on each of two machines, here both this one, is one run."""

import json

import pytest

from tests.warm import command
from xlatrain.xla.jax_start import free_port

pytest.importorskip("jax")
pytestmark = pytest.mark.replicas


def test_two_commands_are_one_run(tmp_path):
    overrides = ["engine.runtime=jax", "cluster.hosts=2", "cluster.replicas=4", "train.duration=3step", "run.name=r"]
    overrides.append(f"cluster.coordinator=127.0.0.1:{free_port()}")
    machines = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        machines.append(command("train", *overrides, f"cluster.host={number}", cwd=folder))
    said = [machine.wait().stdout + machine.stderr for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    summary = json.loads((tmp_path / "0/runs/r/summary.json").read_text())
    assert (summary["replicas"], summary["eval_examples"], summary["steps"]) == (4, 360, 3)
    assert (tmp_path / "0/runs/r/weights.safetensors").exists()
    assert not (tmp_path / "1/runs").exists()
    assert f"{summary['top1']:.4f}" in said[1]
