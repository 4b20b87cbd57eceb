"""A sweep that is started again runs what is left of it: finished jobs are not run again, a broken one goes on."""

import json
import os
import signal

import pytest

from tests.waiting import wait_for
from tests.warm import command
from xlatrain.cli.multirun import Act, run_sweep
from xlatrain.cli.sweep_chart import Result, curves
from xlatrain.cli.sweep_record import number_jobs, recorded_jobs
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, StoppedError
from xlatrain.files import write_json
from xlatrain.preflight.check import check, check_config

LADDER = ["sweep=lr_ladder", "train.duration=1step", "run.name=ladder"]


class Engine:
    """Trains nothing: a job that is done says so from then on. ends: the job in which it is killed."""

    def __init__(self, root, ends=None, fails=()):
        self.root, self.ends, self.fails, self.ran = root, ends, fails, []

    def __call__(self, run, name):
        folder, number = self.root / "runs" / name, int(name.rpartition("/")[2])
        if (folder / "summary.json").exists():
            summary = json.loads((folder / "summary.json").read_text())
            if summary["status"] == "done":
                return summary
        self.ran.append(number)
        folder.mkdir(parents=True, exist_ok=True)
        if number == self.ends:
            raise StoppedError("stopped by SIGTERM", "SIGTERM")
        if number in self.fails:
            raise ValueError("it diverged")
        summary = {"status": "done", "steps": 1, "overrides": list(run.overrides), "run": str(folder)}
        summary |= {"top1": 0.9 - abs(number - 7) / 10, "top5": 1.0, "loss": 0.5, "wall_seconds": 1.0}
        write_json(folder / "summary.json", summary)
        return summary

    def sweep(self, *command):
        self.ran.clear()
        return run_sweep("train", Act(check, check_config, self, True), list(command))


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_twelve_jobs_stopped_in_the_middle_run_only_what_is_missing(root, capsys):
    with pytest.raises(SystemExit) as end:
        Engine(root, ends=5).sweep(*LADDER)
    assert end.value.code == 75
    assert "ends in job 5: the same command with run.name=ladder goes on with it" in capsys.readouterr().err
    again = Engine(root)
    assert again.sweep(*LADDER) == EXIT_DONE
    assert again.ran == [5, 6, 7, 8, 9, 10, 11]
    said = capsys.readouterr()
    assert "runs/ladder, 5 done before\n" in said.err
    assert "0.9000 best" in next(line for line in said.out.splitlines() if "optimizer.lr=0.283" in line)
    assert said.out.strip().endswith("runs/ladder/sweep.png")
    assert (root / "runs/ladder/sweep.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in root.joinpath("runs").iterdir()] == ["ladder"]


@pytest.mark.slow
def test_a_job_that_failed_is_tried_again_and_a_wider_sweep_runs_what_is_new(root):
    engine = Engine(root, fails=[1])
    assert engine.sweep("optimizer.lr=0.1,0.2", "train.duration=1step", "run.name=s") == EXIT_FAILED
    assert engine.ran == [0, 1]
    engine.fails = ()
    assert engine.sweep("optimizer.lr=0.4,0.2,0.1", "train.duration=1step", "run.name=s") == EXIT_DONE
    assert engine.ran == [2, 1]
    numbered = [(job.number, job.overrides[0]) for job in recorded_jobs(root / "runs/s")]
    assert numbered == [(0, "optimizer.lr=0.1"), (1, "optimizer.lr=0.2"), (2, "optimizer.lr=0.4")]
    assert engine.sweep("optimizer.lr=0.1,0.2", "run.name=s", "run.resume=never", "train.duration=1step") == EXIT_DONE
    assert sorted(p.name for p in root.joinpath("runs").iterdir()) == ["s", "s-2"]


@pytest.mark.slow
def test_a_search_that_is_started_again_makes_the_same_choices(root):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["sweep=search", "hydra.sweeper.n_trials=4", "train.duration=1step", "run.name=s"]
    with pytest.raises(SystemExit):
        Engine(root, ends=2).sweep(*search)
    begun = recorded_jobs(root / "runs/s")
    again = Engine(root)
    assert again.sweep(*search) == EXIT_DONE
    assert again.ran == [2, 3]
    assert recorded_jobs(root / "runs/s")[:3] == begun
    assert (root / "runs/s/optimization_results.yaml").exists()


def test_what_a_run_may_change_makes_no_other_job_unless_the_sweep_is_over_it(tmp_path):
    config = check(["train.duration=1step"]).config
    for swept, commands, numbers in (
        ({"optimizer.lr"}, (["optimizer.lr=1", "cluster=cpu"], ["cluster.replicas=2", "optimizer.lr=1"]), [0, 0]),
        ({"cluster.replicas"}, (["cluster.replicas=1"], ["cluster.replicas=2"]), [1, 2]),
        ({"train.duration"}, (["train.duration=1ep"], ["train.duration=2ep"], ["train.duration=1ep"]), [3, 4, 3]),
        (set(), (["data=cifar10", "optimizer.lr=1"], ["optimizer.lr=1"]), [5, 0]),
    ):
        assert number_jobs(tmp_path, commands, config, frozenset(swept)) == numbers


def test_a_line_that_was_torn_is_written_again(tmp_path):
    config, sweep = check(["train.duration=1step"]).config, frozenset({"train.seed"})
    number_jobs(tmp_path, [["train.seed=0"], ["train.seed=1"]], config, sweep)
    path = tmp_path / "jobs.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-20])
    assert [job.number for job in recorded_jobs(tmp_path)] == [0]
    assert number_jobs(tmp_path, [["train.seed=1"], ["train.seed=0"]], config, sweep) == [1, 0]
    assert path.read_text() == whole


def test_a_chart_has_a_curve_for_each_choice_beside_the_longest_ladder():
    grid = [Result((f"optimizer.lr={lr}", f"train.seed={s}"), lr + s) for s in (0, 1) for lr in (0.1, 0.4, 0.2)]
    axis, (first, second) = curves([*grid, Result(("optimizer.lr=0.8", "train.seed=1"), None)])
    assert (axis, first.name, second.name) == ("optimizer.lr", "train.seed=0", "train.seed=1")
    assert first.points == ((0.1, 0.1), (0.2, 0.2), (0.4, 0.4))
    assert curves([Result(("optimizer=sgd",), 0.5), Result(("optimizer=lars",), 0.6)]) == ("", [])


@pytest.mark.one_replica
def test_a_sweep_whose_process_is_killed_goes_on_in_the_middle_of_its_job(tmp_path):
    """The first job is done, the second hangs after its first checkpoint and is killed with all of its processes."""
    run = ["train.duration=4step", "checkpoint.every=1step", "cluster.replicas=1", "run.name=s"]
    summaries = [tmp_path / f"runs/s/{job}/summary.json" for job in range(2)]
    assert command("train", "-m", "train.seed=0", *run, cwd=tmp_path).wait().returncode == 0
    before = summaries[0].read_bytes()
    hang = ["engine.fail_replica=0", "engine.fail_step=2", "engine.fail_how=hang"]
    killed = command("train", "-m", "train.seed=0,1", *run, *hang, cwd=tmp_path)
    wait_for((tmp_path / "runs/s/1/checkpoints/step-000000002/manifest.json").exists)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not summaries[1].exists()
    again = command("train", "-m", "train.seed=0,1", *run, cwd=tmp_path).wait()
    assert again.returncode == 0, again.stderr
    assert "runs/s, 1 done before" in again.stderr
    assert "1 goes on from step-000000002: 2 of 4 steps are done" in again.stderr
    assert summaries[0].read_bytes() == before
    assert json.loads(summaries[1].read_text())["status"] == "done"
    assert (tmp_path / "runs/s/sweep.png").exists()
    assert sorted(p.name for p in (tmp_path / "runs/s").glob("*/")) == ["0", "1"]
