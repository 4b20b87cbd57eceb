"""The command line as a user meets it: exit codes, what is printed last, sweeps and searches."""

import json

import pytest
import yaml

from tests.nets import SMALL
from tests.warm import command
from xlatrain.cli.main import main


def test_wrong_options_exit_with_2_and_all_faults_at_once_and_nothing_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments, words in (
        (["train.globl_batch=1", "model.sync_bn_group=3"], ["train.globl_batch", "model.sync_bn_group"]),
        (["-m", "hydra/launcher=ray", "train.seed=0,1"], ["pip install hydra-ray-launcher"]),
    ):
        assert main(["train", *arguments, "run.name=wrong"]) == 2
        said = capsys.readouterr().err
        assert all(word in said for word in words)
    assert not (tmp_path / "runs/wrong").exists()


def test_a_sweep_does_not_go_on_from_checkpoints_of_an_earlier_one(tmp_path, monkeypatch, capsys):
    """What it left in runs/ is kept aside; what lies elsewhere is not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "far/lrs/1/step-000000008").mkdir(parents=True)
    sweep = ["train", "-m", "optimizer.lr=0.1,0.2", f"checkpoint.folder={tmp_path}/far", "run.name=lrs"]
    assert main(sweep) == 2
    assert f"run.name: {tmp_path}/far/lrs/1 has checkpoints of an earlier sweep" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.replicas
def test_a_run_whose_replica_fails_exits_with_1_and_its_reason_last(tmp_path):
    failing = ["engine.fail_replica=3", "engine.fail_step=2"]
    failed = command("train", SMALL, "cluster.replicas=4", *failing, cwd=tmp_path).wait()
    assert failed.returncode == 1
    assert failed.stderr.strip().splitlines()[-1].startswith("RuntimeError: rehearsed failure")


@pytest.mark.one_replica
def test_a_sweep_goes_on_past_jobs_that_fail_and_ends_with_its_table(tmp_path):
    sweep = command(
        "train",
        "-m",
        "engine.fail_replica=0,null",
        "engine.fail_step=0",
        SMALL,
        "optimizer=glob([s*,lars])",
        "train.duration=1step",
        "cluster.replicas=1",
        "run.name=sweep",
        "sweep.objective=loss",
        cwd=tmp_path,
    ).wait()
    assert sweep.returncode == 1, sweep.stderr
    summaries = [json.loads((tmp_path / f"runs/sweep/{job}/summary.json").read_text()) for job in range(4)]
    assert [s["status"] for s in summaries] == ["failed", "failed", "done", "done"]
    for words in ("engine.fail_replica=null optimizer=sgd", "top-1", "job 1: RuntimeError: rehearsed failure"):
        assert words in sweep.stdout
    best = min(summaries[2:], key=lambda s: s["loss"])
    assert f"{best['loss']:.4f} best" in sweep.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


@pytest.mark.one_replica
def test_optuna_learns_from_the_objective_of_each_job_and_goes_on_past_one_that_fails(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.sampler.seed=1"]
    space = ["train.global_batch=choice(64,1500)", "optimizer.lr=tag(log,interval(0.001,0.1))"]
    run = command(
        "train", "-m", *search, *space, SMALL, "train.duration=1step", "cluster.replicas=1", "run.name=r", cwd=tmp_path
    ).wait()
    found = [json.loads((tmp_path / f"runs/r/{job}/summary.json").read_text()) for job in range(3)]
    assert {s["status"] for s in found} == {"done", "failed"}, run.stderr
    assert run.returncode == 1
    assert "1500 is more than the 1437 training images" in run.stdout
    best = yaml.safe_load((tmp_path / "runs/r/optimization_results.yaml").read_text())
    assert best["best_value"] == max(s["top1"] for s in found if s["status"] == "done")
