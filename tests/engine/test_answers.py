"""Image by image is the evaluation: the same numbers, whoever asks, on any replicas; ensembles are exact."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, top_k_accuracy_score

from tests.nets import SMALL
from tests.weights import write_weights
from xlatrain.data.dataset import open_dataset
from xlatrain.data.order import plain_line
from xlatrain.engine.predict import predict
from xlatrain.engine.run import evaluate

pytestmark = pytest.mark.replicas


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("answers")


@pytest.fixture(scope="module")
def weights(folder):
    return [write_weights(folder / f"{name}.safetensors", SMALL, seed=i) for i, name in enumerate("ab")]


@pytest.fixture(scope="module")
def evaluations(folder, weights):
    """By name: of a plainly, of a closely, and of both together."""
    asked = {
        "plain": [f"weights={weights[0]}", "cluster.replicas=1"],
        "close": [f"weights={weights[0]}", "cluster.replicas=3", "eval.details=true", "eval.mistakes=7"],
        "both": [f"weights=[{','.join(weights)}]", "cluster.replicas=2"],
    }
    return {name: evaluate([SMALL, *more, f"run.root={folder}"], name) for name, more in asked.items()}


@pytest.fixture(scope="module")
def validation(weights):
    """The validation set: its shards, and the labels in order."""
    from xlatrain.preflight.check import check_evaluation

    config = check_evaluation([SMALL, f"weights={weights[0]}"]).config
    split = open_dataset(config.data, config.augment).val
    return split.index, np.array([s.label for s in split.read(plain_line(split.sizes), 0, split.samples)])


@pytest.fixture(scope="module")
def probabilities(folder, weights, validation):
    """Of each file of weights, as predicted of the shards of the validation set: float [2, images, 10]."""
    index, _ = validation
    found = []
    for path, replicas in zip(weights, (3, 1), strict=True):  # padding on the last of three
        out, more = folder / f"{Path(path).stem}.jsonl", f"cluster.replicas={replicas}"
        summary = predict([SMALL, f"weights={path}", "predict.top_k=10", more], [index.root], out)
        assert (summary["images"], summary["damaged"]) == (360, 0)
        assert summary["images_per_second"] > 0
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert len(rows) == 360
        assert rows[0]["path"].startswith(f"{index.root}/shard-000000.tar/")
        table = np.zeros((360, 10))
        for row, line in zip(table, rows, strict=True):
            for found_class in line["classes"]:
                assert found_class["class"] == str(found_class["index"])
                row[found_class["index"]] = found_class["probability"]
        assert np.allclose(table.sum(1), 1)
        found.append(table)
    return np.array(found)


def test_prediction_counts_as_the_evaluation_to_the_last_image(evaluations, probabilities, validation):
    _, labels = validation
    plain = evaluations["plain"]
    assert accuracy_score(labels, probabilities[0].argmax(1)) == plain["top1"]
    assert top_k_accuracy_score(labels, probabilities[0], k=5) == pytest.approx(plain["top5"], abs=1e-9)
    assert -np.log(probabilities[0][np.arange(360), labels]).mean() == pytest.approx(plain["loss"], rel=1e-5)


def test_a_close_look_has_the_same_numbers_on_other_replicas(evaluations):
    plain, close = evaluations["plain"], evaluations["close"]
    for name in ("top1", "top5", "eval_examples", "eval_skipped_samples"):
        assert close[name] == plain[name]
    assert close["loss"] == pytest.approx(plain["loss"], rel=1e-6)
    assert close["compiles"] == {"train": 0, "eval": 1}


def test_tables_are_those_of_scikit_learn(evaluations, probabilities, validation):
    _, labels = validation
    folder = Path(evaluations["close"]["run"])
    wanted = confusion_matrix(labels, probabilities[0].argmax(1))
    with (folder / "confusion.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head[1:] == [row[0] for row in rows] == list(map(str, range(10)))
    assert (np.array([row[1:] for row in rows], int) == wanted).all()
    with (folder / "per_class.csv").open(newline="") as file:
        classes = list(csv.DictReader(file))
    assert [int(row["right"]) for row in classes] == np.diag(wanted).tolist()
    assert [float(row["accuracy"]) for row in classes] == pytest.approx(np.diag(wanted) / wanted.sum(1), abs=1e-6)
    with (folder / "calibration.csv").open(newline="") as file:
        assert sum(int(row["images"]) for row in csv.DictReader(file)) == 360
    assert 0 < evaluations["close"]["calibration_error"] < 1
    assert {"confusion.png", "reliability.png"} <= {path.name for path in folder.iterdir()}


def test_the_page_shows_the_surest_mistakes(evaluations, probabilities, validation):
    _, labels = validation
    text = (Path(evaluations["close"]["run"]) / "mistakes.html").read_text()
    wrong = np.flatnonzero(probabilities[0].argmax(1) != labels)
    surest = wrong[np.argsort(-probabilities[0].max(1)[wrong], kind="stable")][0]
    assert text.count("<img") == 7 == evaluations["close"]["mistakes_shown"]
    assert f"7 of {len(wrong)} mistakes" in text
    assert f"{probabilities[0][surest].argmax()} " in text[text.index("<div class=wrong>") :][:30]


def test_an_ensemble_is_the_mean_of_its_members_probabilities(evaluations, probabilities, validation):
    _, labels = validation
    mean, both = probabilities.mean(0), evaluations["both"]
    assert both["eval_examples"] == 360
    assert both["top1"] == pytest.approx(accuracy_score(labels, mean.argmax(1)), abs=1e-9)
    assert both["loss"] == pytest.approx(-np.log(mean[np.arange(360), labels]).mean(), rel=1e-5)
    assert both["compiles"]["eval"] == 1  # one program for both
    assert len(both["sha256"]) == 2
