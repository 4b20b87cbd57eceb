"""Files of predictions hold a row for each image, in each format the same; what cannot be written leaves nothing."""

import csv
import json

import numpy as np
import pytest

from xlatrain.engine.predictions import Prediction, write_predictions
from xlatrain.errors import DataError

NAMES = ["cat", 'a "dog", sort of', "bird"]
PATHS = ["a.jpg", "with, comma.jpg", "bad\udcff.jpg"]
PROBABILITIES = np.array([0.75, 0.1], np.float32)


def rows():
    yield Prediction.of(PATHS[0], NAMES, np.array([1, 0]), PROBABILITIES, None)
    yield Prediction.of(PATHS[1], NAMES, np.array([2, 1]), PROBABILITIES, None)
    yield Prediction.of(PATHS[2], NAMES, np.array([0, 0]), PROBABILITIES, "it is empty")


def test_csv(tmp_path):
    write_predictions(tmp_path / "p.csv", 2, rows())
    with (tmp_path / "p.csv").open(newline="", errors="surrogateescape") as file:
        found = list(csv.DictReader(file))
    assert [row["path"] for row in found] == PATHS
    assert (found[0]["index_1"], found[0]["class_1"], found[0]["probability_1"]) == ("1", NAMES[1], "0.75")
    assert np.float32(found[0]["probability_2"]) == PROBABILITIES[1]
    assert (found[2]["class_1"], found[2]["error"], found[1]["error"]) == ("", "it is empty", "")
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_json_lines(tmp_path):
    write_predictions(tmp_path / "p.jsonl", 2, rows())
    found = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [row["path"] for row in found] == PATHS
    assert found[0]["classes"][0] == {"index": 1, "class": NAMES[1], "probability": 0.75}
    assert (found[0]["error"], found[2]["classes"], found[2]["error"]) == (None, [], "it is empty")


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_predictions(tmp_path / "p.parquet", 2, rows())
    found = parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert [row["path"] for row in found] == [*PATHS[:2], "bad\\udcff.jpg"]
    assert found[0]["classes"] == [NAMES[1], NAMES[0]]
    assert np.float32(found[0]["probabilities"][1]) == PROBABILITIES[1]
    assert found[2] == {
        "path": "bad\\udcff.jpg", "indices": [], "classes": [], "probabilities": [], "error": "it is empty"
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_disk_that_is_full_leaves_nothing(suffix, tmp_path):
    def until_full():
        yield from rows()
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=rf"p{suffix} could not be written: No space left on device"):
        write_predictions(tmp_path / f"p{suffix}", 2, until_full())
    assert not list(tmp_path.iterdir())
