"""What is wrong with a launch is told before gcloud is called, each with its cure; and what the command line prints."""

import json

import pytest

from xlatrain.cli.main import main
from xlatrain.errors import EXIT_CONFIG, EXIT_DONE

GOOD = ["cluster=tpu_v4_32", "launch.name=b2", "launch.zone=us-central2-b", "launch.folder=gs://mine/runs"]


@pytest.fixture(autouse=True)
def nothing_is_called(monkeypatch, tmp_path):
    """A gcloud that would be seen."""
    (tmp_path / "gcloud").write_text("#!/bin/sh\ntouch called\nexit 1\n")
    (tmp_path / "gcloud").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["launch.name=B_2"], "launch.name: 'B_2' is no name for machines of Google Cloud"),
        (["launch.name=null"], "launch.name: the machines have no name"),
        (["launch.zone=null"], "launch.zone: is open"),
        (["launch.zone=europe"], "launch.zone: 'europe' is no zone"),
        (["launch.project=My Project"], "launch.project: 'My Project' is no project"),
        (["launch.capacity=free"], "launch.capacity: 'free' is not one of on_demand, spot, reserved"),
        (["cluster=cpu"], "cluster: cluster=cpu is no TPU"),
        (["cluster=cpu", "launch.stand_in=true", "cluster.hosts=2"], "engine.runtime: several machines of CPUs"),
        (["cluster.chip.name=tpu7x"], "cluster: tpu7x is not among the TPU VMs of this interface"),
        (["cluster.chip.runtime_version=null"], "cluster.chip.runtime_version: is open"),
        (["cluster.accelerator_type=null"], "cluster.accelerator_type: is open"),
        (["cluster=tpu_v6e_16", "launch.by_topology=true"], "launch.by_topology: gcloud takes a topology for v2, v3"),
        (["launch.max_usd=1"], "launch.max_usd: 1 USD buy 1.2 minutes of 51.52 USD an hour"),
        (["launch.max_usd=9", "cluster.chip.price_on_demand=null"], "the on_demand price of v4 is not known"),
        (["launch.folder=null"], "launch.folder: is open: checkpoints would go with the machine"),
        (["launch.folder=null", "checkpoint.folder=gs://m/c"], "launch.folder: is open: all that the run writes"),
        (["launch.folder=runs"], "launch.folder: runs is a folder of each machine's own"),
        (["launch.folder=https://mine/runs"], "launch.folder: https://mine/runs cannot be written to"),
        (["launch.folder=gs://"], "launch.folder: gs:// names no bucket"),
        (["launch.max_usd=-3"], "one fault in the configuration; nothing was started.\n  launch.max_usd: -3.0 is out"),
        (["run.resume=never"], "run.resume: never: each new machine would begin anew"),
        (["run.root=gs://mine"], "run.root: gs://mine is no folder of this machine"),
        (["model._target_=mine.Net"], "model._target_: is code that the machines do not have"),
        (["weights=runs/first"], "weights: runs/first is a path of this computer, not of the machines"),
        (["--config-dir=."], "--config-dir: . is a folder of this computer"),
        (["train.seed=-1"], "train.seed: -1 is out of range"),
        (["launch.zon=x"], "launch.zon: there is no such option"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_called(overrides, said, capsys):
    assert main(["launch", "--until-done", *GOOD, *overrides]) == EXIT_CONFIG
    error = capsys.readouterr().err
    assert said in error
    assert "cure: " in error


@pytest.mark.parametrize("arguments", [[], GOOD, ["fly", *GOOD], ["create", "--until-done", *GOOD]])
def test_a_verb_is_named(arguments, capsys):
    assert main(["launch", *arguments]) == EXIT_CONFIG
    assert "launch" in capsys.readouterr().err


def test_a_dry_run_prints_each_command_and_gives_none(capsys):
    assert main(["launch", "--until-done", "--dry-run", *GOOD, "train.seed=3"]) == EXIT_DONE
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0:5][-1] for line in lines[1:3]] == ["create", "describe"]
    assert "pip wheel" in lines[0]
    start = next(line for line in lines if "on_worker start" in line)
    assert "cluster=tpu_v4_32 train.seed=3 run.name=b2 checkpoint.folder=gs://mine/runs" in start
    assert "launch." not in start.partition("-- cluster")[2]
    assert lines[-1] == "gcloud compute tpus queued-resources delete b2 --zone=us-central2-b --force --quiet"


def test_a_run_that_was_launched_need_be_named_and_no_more(tmp_path, capsys):
    (tmp_path / "runs/b2").mkdir(parents=True)
    (tmp_path / "runs/b2/launch.json").write_text(json.dumps({"overrides": GOOD}))
    assert main(["launch", "delete", "launch.name=b2", "--dry-run"]) == EXIT_DONE
    assert capsys.readouterr().out.split()[-3:] == ["--zone=us-central2-b", "--force", "--quiet"]
    assert main(["launch", "delete", "launch.name=b3", "--dry-run"]) == EXIT_CONFIG


def test_without_gcloud_it_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["launch", "create", *GOOD]) == EXIT_CONFIG
    assert "there is no gcloud" in capsys.readouterr().err


def test_a_wheel_that_cannot_be_built_asks_for_no_machine(monkeypatch, capsys):
    fails = ["sh", "-c", "echo no hatchling >&2; exit 1"]
    monkeypatch.setattr("xlatrain.cli.launch._wheel_command", lambda folder: fails)
    assert main(["launch", "--until-done", *GOOD]) == EXIT_CONFIG
    assert "the wheel cannot be built: no hatchling" in capsys.readouterr().err


