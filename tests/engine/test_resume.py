"""A run that is started again goes on as if it had never stopped, or says why it does not."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.checkpoint.states import same_bits
from tests.nets import NOISY
from tests.runs import lines, train
from tests.waiting import wait_for
from tests.warm import command
from xlatrain.checkpoint.manifest import MANIFEST, TENSORS, name_of
from xlatrain.checkpoint.read import read_manifest
from xlatrain.checkpoint.store import LocalStore
from xlatrain.checkpoint.write import write_checkpoint
from xlatrain.engine import run as runs
from xlatrain.engine.checkpoints import saved_settings
from xlatrain.engine.metrics import CUT, METRICS, cut_metrics
from xlatrain.engine.run_folder import claimed_folder
from xlatrain.errors import EXIT_STOPPED, ConfigError, ReplicaError
from xlatrain.preflight.check import check
from xlatrain.xla import launch as launcher

# Dropout, stochastic depth, mixup, erasing, AutoAugment on random crops, a moving average, statistics of each replica's
# own, and images whose size changes after step 5.
EVERYTHING = [
    *NOISY,
    "augment.crop=tf",
    "augment.policy=autoaugment",
    "augment.flip=true",
    "augment.mixup=0.2",
    "augment.erase=0.3",
    "augment.sizes=[{until: 1ep, size: 16}, {size: 24}]",
    "model.sync_bn_group=local",
    "ema=on",
    "optimizer.lr=0.02",
    "cluster.replicas=2",
    "train.global_batch=240",
    "train.duration=8step",
    "train.log_every=2step",
    "train.eval_every=8step",
    "eval.global_batch=40",
]
TIMES = {"images_per_second", "host_ms_per_step", "data_wait_fraction", "spent"}


def numbers(summary):
    """Lines of training and evaluation but for times."""
    rows = lines(summary, "train") + lines(summary, "eval")
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def stopped(root):
    """A run that failed after step 3, in the middle of an epoch and of an interval of the log, and went on."""
    with pytest.raises(ReplicaError, match="rehearsed failure"):
        train(
            root, "stopped", *EVERYTHING, "checkpoint.every=3step", "engine.fail_replica=0", "engine.fail_step=4",
        )  # fmt: skip
    summary = json.loads((root / "stopped/summary.json").read_text())
    assert summary["status"] == "failed"
    return train(root, "stopped", *EVERYTHING, "checkpoint.every=8step", "data.prefetch=3")


@pytest.fixture(scope="module")
def whole(root):
    return train(root, "whole", *EVERYTHING, "checkpoint.every=8step")


@pytest.mark.replicas
def test_a_run_that_stopped_is_the_run_that_never_did_bit_by_bit(root, stopped, whole):
    assert (whole["resumed_from_step"], stopped["resumed_from_step"]) == (None, 3)
    last = [load_file(Path(s["run"]) / "checkpoints" / name_of(8) / TENSORS) for s in (whole, stopped)]
    assert {"params", "slots/momentum", "ema_params", "ema_buffers", "buffers", "step", "skipped"} <= set(last[0])
    assert same_bits(*last)
    assert whole["sha256"] == stopped["sha256"]
    assert numbers(whole) == numbers(stopped)
    saved = read_manifest(LocalStore(root / "stopped/checkpoints"), name_of(3))
    assert saved.facts["groups"] == [[0], [1]]
    buffers = load_file(root / "stopped/checkpoints" / name_of(3) / TENSORS)["buffers"]
    assert not torch.equal(*buffers)  # each replica's own


@pytest.mark.replicas
def test_a_run_that_is_stopped_while_it_evaluates_evaluates_anew_and_is_the_run_that_never_was(root, tmp_path, whole):
    overrides = [*EVERYTHING, "engine.strict=true", "checkpoint.every=8step", f"run.root={root}", "run.name=evaluating"]
    process, log = command("train", *overrides, cwd=tmp_path), root / "evaluating/train.log"
    wait_for(lambda: log.exists() and "compiling the eval step" in log.read_text())
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait().returncode == EXIT_STOPPED
    assert json.loads((root / "evaluating/summary.json").read_text())["steps"] == 8
    assert '"kind": "eval"' not in (root / "evaluating" / METRICS).read_text()
    gone_on = train(root, "evaluating", *EVERYTHING, "checkpoint.every=8step")
    assert gone_on["resumed_from_step"] == 8
    assert gone_on["sha256"] == whole["sha256"]
    assert numbers(gone_on) == numbers(whole)


@pytest.mark.replicas
def test_a_run_says_that_it_went_on(root, stopped):
    folder = root / "stopped"
    events = [(row["event"], row["step"]) for row in lines(stopped, "event")]
    assert events == [("checkpoint", 3), ("resumed", 3), ("checkpoint", 8), ("done", 8)]
    assert all(row["wait_seconds"] >= 0 for row in lines(stopped, "event") if row["event"] == "checkpoint")
    assert (stopped["checkpoints_saved"], stopped["checkpoints_failed"]) == (1, 0)
    cut = (
        [json.loads(row)["step"] for row in (folder / CUT).read_text().splitlines()] if (folder / CUT).exists() else []
    )
    assert set(cut) <= {4}
    assert "prefetch: 2" in (folder / "config.yaml").read_text()
    assert "prefetch: 3" in (folder / "config.2.yaml").read_text()
    log = (folder / "train.log").read_text()
    assert "stopped goes on from step-000000003: 3 of 8 steps are done" in log
    assert "compile cache: off, since torch_xla writes programs that it cannot read" in log


@pytest.mark.replicas
def test_docs_reader_of_a_checkpoint(root, stopped):
    """The program of docs/checkpoints.md, as it stands."""
    text = (Path(__file__).parents[2] / "docs/checkpoints.md").read_text()
    program = text.partition("```python\n")[2].partition("```")[0]
    assert len(program.strip().splitlines()) <= 12
    names = {}
    exec(program.replace("runs/NAME/checkpoints/step-000000100", str(root / "stopped/checkpoints" / name_of(8))), names)
    weights = load_file(root / "stopped/weights_raw.safetensors")
    found = names["tensors"]
    assert set(found) <= set(weights)
    assert len(found) > 8
    assert all(torch.equal(found[name], weights[name]) for name in found)


OPTIONS = ["cluster.replicas=1", "train.duration=20step", "train.global_batch=100"]


@pytest.fixture
def started(monkeypatch):
    """What would have been started: the run, and the checkpoint that it goes on from."""
    starts = []

    def launch(target, checked, folder, *more, **where):
        starts.append((checked, Path(folder), *more))
        return {"status": "done", "steps": checked.lengths.total_steps, "top1": 0.5}

    monkeypatch.setattr(launcher, "launch", launch)
    return starts


def leave(folder, *steps, options=OPTIONS, samples=1437):
    """What a run of these options would have left that was killed."""
    run = check(options)
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_config(folder / "config.yaml", run.config, {})
    for step in steps:
        facts = {"config": saved_settings(run.config), "samples": samples}
        write_checkpoint(LocalStore(folder / "checkpoints"), step, {"step": torch.tensor(step)}, facts)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_a_finished_one_is_left_alone(tmp_path, started, capsys):
    leave(tmp_path / "r", 4, 8)
    (tmp_path / "r/summary.json").write_text('{"status": "failed"}')
    assert train(tmp_path, "r", *OPTIONS)["steps"] == 20
    ((checked, folder, checkpoint),) = started
    assert (folder, checkpoint) == (tmp_path / "r", name_of(8))
    assert checked.notes[-1] == "r goes on from step-000000008: 8 of 20 steps are done"
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert train(tmp_path, "r", *OPTIONS)["top1"] == 0.5
    assert len(started) == 1
    assert "is finished after 20 steps: nothing is left to do" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    train(tmp_path, "r", *OPTIONS, "train.duration=30step")
    assert started[1][2] == name_of(8)
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_run_that_reached_its_goal_is_finished_for_that_goal_alone(tmp_path, started, capsys):
    goal = [*OPTIONS, "train.until=top1>=0.4"]
    leave(tmp_path / "r", 4, 8)
    summary = {"status": "done", "steps": 8, "until": "top1>=0.4", "reached": {"step": 8}}
    (tmp_path / "r/summary.json").write_text(json.dumps(summary))
    assert train(tmp_path, "r", *goal) == summary
    assert started == []
    assert "is finished after 8 steps" in capsys.readouterr().err
    train(tmp_path, "r", *OPTIONS, "train.until=top1>=0.5")
    assert started[0][2] == name_of(8)
    summary["reached"] = None
    (tmp_path / "r/summary.json").write_text(json.dumps(summary))  # it had come to its end, and may be longer now
    train(tmp_path, "r", *goal)
    assert len(started) == 2


def test_damaged_ones_are_passed_over_and_if_all_are_nothing_is_started(tmp_path, started, capsys):
    leave(tmp_path / "r", 4, 8)
    (tmp_path / "r/checkpoints" / name_of(8) / TENSORS).write_bytes(b"half of it")
    train(tmp_path, "r", *OPTIONS)
    assert started[0][2] == name_of(4)
    assert f"{name_of(8)} is passed over: state.safetensors has 10 bytes" in capsys.readouterr().err
    (tmp_path / "r/summary.json").unlink()
    (tmp_path / "r/checkpoints" / name_of(4) / MANIFEST).unlink()
    with pytest.raises(ConfigError, match=r"run.name: of the checkpoints in .*/r/checkpoints none is sound"):
        train(tmp_path, "r", *OPTIONS)
    assert len(started) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["optimizer.lr=0.5"], r"optimizer.lr: is 0.5 now and was 0.05 in .*(.|\n)*run.resume=force"),
        (["optimizer=lars"], r"optimizer.name: is lars now and was sgd(.|\n)*take optimizer=sgd, or"),
        (["ema=off", "train.seed=3"], r"ema.enabled: is false now and was true(.|\n)*train.seed: is 3 now and was 0"),
        (["train.duration=7step"], "train.duration: 7step is 7 steps, and 8 are done"),
    ],
)
def test_options_that_matter_may_not_change(tmp_path, started, options, words):
    leave(tmp_path / "r", 8)
    with pytest.raises(ConfigError, match=words):
        train(tmp_path, "r", *OPTIONS, *options)
    assert started == []
    if "7step" not in options[0]:
        train(tmp_path, "r", *OPTIONS, *options, "run.resume=force")
        assert any(note.startswith("warning: ") and "from here on" in note for note in started[0][0].notes)


def test_options_that_do_not_matter_may_change(tmp_path, started):
    leave(tmp_path / "r", 8)
    free = ["data.workers=2", "data.prefetch=5", "train.log_every=3step", "checkpoint.keep=5", "cluster.replicas=2"]
    train(tmp_path, "r", *OPTIONS, *free, "train.duration=40step", "engine.in_flight=2")
    assert started[0][2] == name_of(8)


def test_a_finished_run_of_other_options_is_not_taken_for_this_one(tmp_path, started):
    train(tmp_path, "r", *OPTIONS)
    with pytest.raises(ConfigError, match="optimizer.lr: is 0.5 now and was 0.05"):
        train(tmp_path, "r", *OPTIONS, "optimizer.lr=0.5")
    with pytest.raises(ConfigError, match=r"finished after 20 steps, and no checkpoint of it is left"):
        train(tmp_path, "r", *OPTIONS, "train.duration=30step")


def test_other_data_are_refused(tmp_path, started):
    leave(tmp_path / "r", 8, samples=1000)
    with pytest.raises(ConfigError, match="data: 1,437 images to train on, and there were 1,000"):
        train(tmp_path, "r", *OPTIONS)


@pytest.mark.slow
def test_never_starts_a_new_run_beside_the_old_one(tmp_path, started, capsys):
    leave(tmp_path / "r", 8)
    for name in ("r-2", "r-3"):
        train(tmp_path, "r", *OPTIONS, "run.resume=never")
        assert started[-1][1:] == (tmp_path / name, None)
        assert f"r stays as it is; the new run is {name}" in capsys.readouterr().err


def test_a_run_that_saved_nothing_begins_anew_and_what_it_left_is_kept(tmp_path, started):
    leave(tmp_path / "r")
    train(tmp_path, "r", *OPTIONS)
    assert started[0][1:] == (tmp_path / "r", None)
    assert (tmp_path / "r.1/config.yaml").exists()


@pytest.mark.slow
def test_checkpoints_elsewhere_are_found_when_the_folder_is_gone(tmp_path, started):
    leave(tmp_path / "r", 8)
    shutil.copytree(tmp_path / "r/checkpoints", tmp_path / "far/r")
    shutil.rmtree(tmp_path / "r")
    train(tmp_path, "r", *OPTIONS, f"checkpoint.folder={tmp_path}/far")
    assert started[0][1:] == (tmp_path / "r", name_of(8))


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.slow
def test_a_full_disk_is_told_before_a_start_and_does_not_hide_how_a_run_ended(tmp_path, started, monkeypatch, capsys):
    leave(tmp_path / "r", 8)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_config", full)
        with pytest.raises(ConfigError, match=r"run.root: .*/r cannot be written to: No space left on device"):
            train(tmp_path, "r", *OPTIONS)
    assert started == []
    monkeypatch.setattr(runs, "write_json", full)
    with pytest.raises(ReplicaError, match=r"came to its end, but summary.json could not be written to .*/r: No space"):
        train(tmp_path, "r", *OPTIONS)

    def failing(*_, **__):
        raise ReplicaError("why it failed")

    monkeypatch.setattr(launcher, "launch", failing)
    with pytest.raises(ReplicaError, match="why it failed"):
        train(tmp_path, "r", *OPTIONS)
    assert f"how the run ended could not be written to {tmp_path}/r: No space left" in capsys.readouterr().err


def test_a_job_of_a_sweep_is_told_by_the_name_that_goes_on_with_it(tmp_path, started):
    leave(tmp_path / "lrs/1", 8)
    train(tmp_path, "lrs/1", *OPTIONS)
    assert started[0][0].notes[-1] == "lrs/1 goes on from step-000000008: 8 of 20 steps are done"


def test_two_at_a_time_are_refused(tmp_path, started):
    with claimed_folder(str(tmp_path), "r") as folder:
        leave(folder, 8)
        with pytest.raises(ConfigError, match=r"run.name: a run in .*/r is going on"):
            train(tmp_path, "r", *OPTIONS)
    train(tmp_path, "r", *OPTIONS)  # a lock that nobody holds is none


def test_lines_of_later_steps_and_torn_ones_go_and_are_kept(tmp_path):
    assert cut_metrics(tmp_path, 3) == 0
    rows = [json.dumps({"kind": kind, "step": step}) + "\n" for step in (1, 2, 3, 4) for kind in ("train", "eval")]
    (tmp_path / METRICS).write_text("".join(rows) + '{"kind": "train", "st')
    assert cut_metrics(tmp_path, 3) == 2
    assert (tmp_path / METRICS).read_text() == "".join(rows[:6])
    assert (tmp_path / CUT).read_text() == "".join(rows[6:]) + '{"kind": "train", "st\n'
    assert cut_metrics(tmp_path, 3) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [CUT, METRICS]
    assert cut_metrics(tmp_path, 3, evaluated=False) == 1  # it was stopped before it had evaluated, and will do so
    assert (tmp_path / METRICS).read_text() == "".join(rows[:5])


def test_more_workers_leave_the_batches_as_they_were(tmp_path, started):
    """data.streams, left open, follows from the workers; a run that goes on keeps those that it began with."""
    leave(tmp_path / "r", 8)
    train(tmp_path, "r", *OPTIONS, "data.workers=20")
    assert started[0][0].config.data.streams == started[0][0].dataset.train.streams == 8
    with pytest.raises(ConfigError, match="data.streams: is 4 now and was 8"):
        train(tmp_path, "r", *OPTIONS, "data.streams=4", "train.duration=30step")


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("FILE/checkpoints", "checkpoint.folder: .*/a-file/checkpoints cannot be written"),
        ("https://host/runs", "checkpoint.folder: https://host/runs cannot be written to"),
        ("nfs://host/runs", "checkpoint.folder: nfs://host/runs: nfs:// is not known"),
    ],
)
def test_a_folder_that_cannot_hold_checkpoints_is_a_fault(tmp_path, folder, words):
    (tmp_path / "a-file").touch()
    with pytest.raises(ConfigError, match=words):
        check([*OPTIONS, f"checkpoint.folder={folder.replace('FILE', str(tmp_path / 'a-file'))}"])


def test_a_duration_is_asked_for():
    with pytest.raises(ConfigError, match="checkpoint.every: 'often' is not a duration"):
        check([*OPTIONS, "checkpoint.every=often"])
    with pytest.raises(ConfigError, match="checkpoint.keep_every: '0ep' is not a duration"):
        check([*OPTIONS, "checkpoint.keep_every=0ep"])
