"""A prediction of a folder as it comes: each image once, in order, the damaged ones with why they are."""

import csv
from types import SimpleNamespace

import pytest

from tests.nets import SMALL
from tests.shards import picture, write
from tests.warm import command
from tests.weights import write_weights
from xlatrain.engine import predict_replica
from xlatrain.engine.progress import ProgressLine


@pytest.mark.one_replica
def test_a_folder_as_it_comes(tmp_path):
    write_weights(tmp_path / "w.safetensors", SMALL, "data.image_size=16")
    (tmp_path / "photos").mkdir()
    for i in range(5):
        (tmp_path / f"photos/{i}.png").write_bytes(picture(i))
    (tmp_path / "photos/2.png").write_bytes(b"")
    write(tmp_path / "shards", 12, per_shard=12)
    shard = "shards/shard-000000.tar"
    done = command(
        "predict", SMALL, "weights=w.safetensors", "out=found.csv", shard, "photos", "photos/4.png",
        "predict.top_k=2", "train.global_batch=8", "cluster.replicas=1", cwd=tmp_path,
    ).wait()  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "data.image_size=16" in done.stderr
    assert "images/s" in done.stderr
    said = dict(line.strip().split(maxsplit=1) for line in done.stdout.splitlines())
    assert (said["images"], said["damaged"], said["written"]) == ("18", "1", "found.csv")
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = [f"{shard}/{i:04d}" for i in range(12)] + [f"photos/{i}.png" for i in range(5)] + ["photos/4.png"]
    assert [row["path"] for row in rows] == wanted
    assert {row["path"]: row["error"] for row in rows if row["error"]} == {"photos/2.png": "it is empty"}
    assert set(rows[0]) == {"path", "error", *(f"{n}_{i}" for n in ("index", "class", "probability") for i in (1, 2))}
    assert {k: v for k, v in rows[-1].items() if k != "path"} == {k: v for k, v in rows[-2].items() if k != "path"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.csv", "photos", "shards", "w.safetensors"]


def test_a_rate_is_of_what_follows_the_first_batch_and_of_the_only_one_without_compiling(monkeypatch):
    for shown, images, rate in (([(10.0, 8)], 8, 4.0), ([(10.0, 8), (11.0, 16), (12.0, 20)], 20, 6.0)):
        times = iter([0.0, 0.0, *(when for when, _ in shown)])  # of the clock as the rate is begun, and at each batch
        monkeypatch.setattr(predict_replica, "time", SimpleNamespace(perf_counter=times.__next__))
        pace = predict_replica.Pace(ProgressLine(images, silent=True, unit="image"), images, lambda: 8.0)
        for _, done in shown:
            pace.show(done)
        assert pace.images_per_second == rate
