"""The same command, started on each of two machines, here both this one, is one run, and one that a single process
could have made."""

import json

import pytest

from tests.nets import SMALL
from tests.warm import command
from xlatrain.xla import heartbeat
from xlatrain.xla.jax_start import free_port

pytest.importorskip("jax")
pytestmark = pytest.mark.replicas

RUN = [SMALL, "engine.runtime=jax", "cluster.replicas=4", "train.duration=14step", "train.log_every=1step"]
RUN += ["run.name=r"]


def run_on_machines(root, *of_each):
    """`xlatrain train` on as many machines as there are lists of overrides: exit codes and output of each."""
    meet = [f"cluster.hosts={len(of_each)}", f"cluster.coordinator=127.0.0.1:{free_port()}"]
    machines = []
    for number, overrides in enumerate(of_each):
        folder = root / str(number)
        folder.mkdir(parents=True)
        common = [*RUN, *overrides, f"cluster.host={number}", *(meet if len(of_each) > 1 else [])]
        beats = {"XLATRAIN_HEARTBEATS": str(root / f"beats-{number}")}
        machines.append(command("train", *common, cwd=folder, environment=beats))
    said = [machine.wait().stdout + machine.stderr for machine in machines]
    return [machine.returncode for machine in machines], said


def losses(root):
    rows = [json.loads(line) for line in (root / "0/runs/r/metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["kind"] == "train"]


def test_two_commands_are_one_run_whose_losses_are_those_of_one_process(tmp_path):
    """14 steps, over the end of an epoch of 11: batches are the same, so losses differ by the order of sums only, which
    training makes more of; the tolerance is that of test_runtimes.py."""
    codes, said = run_on_machines(tmp_path / "two", [], [])
    assert codes == [0, 0], said
    summary = json.loads((tmp_path / "two/0/runs/r/summary.json").read_text())
    assert (summary["replicas"], summary["eval_examples"], summary["steps"]) == (4, 360, 14)
    assert (tmp_path / "two/0/runs/r/weights.safetensors").exists()
    assert not (tmp_path / "two/1/runs").exists()
    assert {replica for beat in heartbeat.read(tmp_path / "two/beats-1") for replica in beat.replicas} == {2, 3}
    assert not (tmp_path / "two/beats-0").exists()  # its folder has them
    assert f"{summary['top1']:.4f}" in said[1]
    codes, said = run_on_machines(tmp_path / "one", ["data.workers=2"])
    assert codes == [0], said
    assert len(losses(tmp_path / "two")) == 14
    assert losses(tmp_path / "two")[:5] == pytest.approx(losses(tmp_path / "one")[:5], rel=1e-5)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=5e-4)


def test_machines_that_would_cut_the_data_differently_do_not_start(tmp_path):
    """As two would that have other numbers of cores, and so of workers and streams."""
    codes, said = run_on_machines(tmp_path, [], ["data.workers=9"])
    assert codes == [1, 1], said
    assert "machines would cut the data into different streams, this one into" in said[0]
    assert "give all of them the same data.streams" in said[0]
