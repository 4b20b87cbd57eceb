"""What a run reports goes to every logger, goes on where the run does, and never ends or holds it up."""

import csv
import json
import os
import threading

import pytest

from xlatrain.config.run import LoggerConfig
from xlatrain.engine.loggers.logger import Behind, Guarded
from xlatrain.engine.loggers.open import NUMBERS, open_loggers
from xlatrain.engine.metrics import METRICS, MetricsWriter, cut_metrics

STEPS = (1, 2, 3)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r/config.yaml").write_text("train: {seed: 3, duration: 4ep}\nmodel: {kwargs: {width: 2}}\n")
    return tmp_path / "r"


def report(folder, config, steps, start=None, say=pytest.fail, **more):
    """A run of these steps, each with a loss that is its number, and an evaluation after the last."""
    writer = MetricsWriter(folder, open_loggers(config, folder, folder / METRICS, start, say))
    for step in steps:
        writer.write("train", step, step / 2, loss=float(step), **more)
    writer.write("eval", steps[-1], steps[-1] / 2, top1=0.5)
    writer.write("event", steps[-1], steps[-1] / 2, event="done")
    writer.sync()
    writer.close()


def stopped_and_gone_on_with(folder, config, say=pytest.fail):
    """Killed in step 3, with a checkpoint of step 2; what comes then has a value more."""
    report(folder, config, STEPS, say=say)
    cut_metrics(folder, 2)
    report(folder, config, (3, 4), 2, say, spikes=1)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_every_step_once(folder):
    stopped_and_gone_on_with(folder, LoggerConfig(tensorboard=False, csv=True))
    train = rows(folder / "train.csv")
    assert [(row["step"], row["loss"], row["spikes"]) for row in train] == [
        ("1", "1.0", ""), ("2", "2.0", ""), ("3", "3.0", "1"), ("4", "4.0", "1")
    ]  # fmt: skip
    assert [(row["step"], row["top1"]) for row in rows(folder / "eval.csv")] == [("4", "0.5")]
    assert not list(folder.glob("*.part"))


def test_tensorboard_has_every_step_once(folder):
    stopped_and_gone_on_with(folder, LoggerConfig())
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = reader.EventAccumulator(str(folder)).Reload()
    assert [(e.step, e.value) for e in board.Scalars("train/loss")] == [(n, float(n)) for n in (1, 2, 3, 4)]


def test_several_at_once(folder):
    report(folder, LoggerConfig(csv=True), STEPS)
    assert len(rows(folder / "train.csv")) == 3
    assert list(folder.glob("events.out.tfevents*"))
    assert len((folder / METRICS).read_text().splitlines()) == 5


@pytest.mark.slow
def test_mlflow_keeps_one_run_with_its_options_in_a_folder(folder):
    mlflow = pytest.importorskip("mlflow")
    uri = f"file:{folder.parent}/mlruns"
    stopped_and_gone_on_with(folder, LoggerConfig(tensorboard=False, mlflow=True, mlflow_uri=uri, project="p"))
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("p").experiment_id])
    assert (run.info.run_id, run.info.run_name) == (json.loads((folder / NUMBERS).read_text())["mlflow"], "r")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.seed": "3", "train.duration": "4ep", "model.kwargs.width": "2"}
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    assert {(m.step, m.value) for m in losses} == {(n, float(n)) for n in (1, 2, 3, 4)}


@pytest.mark.slow
def test_wandb_goes_on_offline_under_one_number(folder, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    stopped_and_gone_on_with(folder, LoggerConfig(tensorboard=False, wandb=True))
    number = json.loads((folder / NUMBERS).read_text())["wandb"]
    kept = list(folder.glob(f"wandb/offline-run-*/run-{number}.wandb"))
    assert len(kept) == 2  # of one number: W&B puts them together
    assert all(b"duration" in path.read_bytes() for path in kept)  # of the options


class Broken:
    """Fails when it is told the second line."""

    def __init__(self):
        self.lines = 0

    def write(self, kind, step, epoch, values):
        self.lines += 1
        if self.lines > 1:
            raise ConnectionError("the server\nis gone")

    def flush(self):
        raise AssertionError("it was left out")

    close = flush


def no_client():
    raise ImportError("nothing of that name")


@pytest.mark.parametrize(
    ("open", "words"),
    [(Broken, "X is left out from here on: ConnectionError: the server is gone"),
     (no_client, "X is left out from here on: ImportError: nothing of that name")],
)  # fmt: skip
@pytest.mark.parametrize("kind", [Guarded, Behind])
def test_one_that_fails_is_said_once_and_left_out(kind, open, words):
    said = []
    logger = kind("X", open, said.append)
    for step in STEPS:
        logger.write("train", step, 0.0, {"loss": 1.0})
    if kind is Guarded:
        logger.flush()
    logger.close()
    assert said == [words]


def test_one_that_does_not_answer_holds_up_nobody(monkeypatch):
    monkeypatch.setattr("xlatrain.engine.loggers.logger._MOST", 2)
    answers, began, said = threading.Event(), threading.Event(), []

    class Slow(Broken):
        def write(self, kind, step, epoch, values):
            began.set()
            answers.wait()

    logger = Behind("X", Slow, said.append)
    logger.write("train", 1, 0.0, {})
    assert began.wait(10)
    for step in (2, 3, 4, 5):
        logger.write("train", step, 0.0, {})
    logger.close(0.01)
    answers.set()
    assert said == [
        "X is 2 lines behind: it misses what comes now",
        "X has not taken all after 0.01 s: the rest is left out",
    ]


def test_an_upload_that_fails_leaves_the_run_its_lines(folder, monkeypatch):
    """W&B without a login, where nobody checked; or without its package."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setattr("xlatrain.engine.loggers.open.WandbRun", lambda *_: no_client())
    said = []
    report(folder, LoggerConfig(tensorboard=False, wandb=True), STEPS, say=said.append)
    assert said == ["Weights & Biases is left out from here on: ImportError: nothing of that name"]
    assert len((folder / METRICS).read_text().splitlines()) == 5
