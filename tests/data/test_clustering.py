"""What is said of how classes mix holds for the order that is read: expected chi² against that of the batches."""

from dataclasses import replace

import numpy as np
import pytest

from tests.data.orders import batches_of
from xlatrain.cli.shards import shards
from xlatrain.data import order
from xlatrain.data.clustering import BAD, GOOD, Reading, batch_chi2, good_window, measure_clustering
from xlatrain.data.order import Leg
from xlatrain.data.shard_format import read_index, write_shards
from xlatrain.engine.run import train
from xlatrain.errors import ReplicaError
from xlatrain.preflight.check import check

SHARDS, PER_SHARD, CLASSES = 40, 500, 10
SIZES, SAMPLES = [PER_SHARD] * SHARDS, SHARDS * PER_SHARD


def in_shards(labels):
    return np.split(np.asarray(labels), SHARDS)


SORTED = in_shards(np.repeat(np.arange(CLASSES), SAMPLES // CLASSES))
SHUFFLED = in_shards(np.random.default_rng(0).permutation(np.concatenate(SORTED)))
SORTED_WITHIN = [np.sort(shard) for shard in SHUFFLED]
ALTERNATING = in_shards(np.arange(SAMPLES) % 2 + 2 * (np.arange(SAMPLES) // (SAMPLES // 5)))
UNEVEN = in_shards(np.sort(np.random.default_rng(1).choice(CLASSES, SAMPLES, p=np.arange(1, 11) / 55)))


def counts_of_batches(split, leg, window, epoch=0):
    """Labels of each class in each global batch, [steps, classes]."""
    labels, line = np.concatenate(split), order.epoch_line(SIZES, 0, epoch)
    batches = labels[batches_of(line, SIZES, leg, 0, epoch, 0, window)]
    return np.stack([np.bincount(b, minlength=CLASSES) for b in batches])


def measured_chi2(split, leg, window):
    share = np.bincount(np.concatenate(split), minlength=CLASSES) / SAMPLES
    counts = np.concatenate([counts_of_batches(split, leg, window, epoch) for epoch in range(3)])
    expected = share * leg.batch
    return float(((counts - expected) ** 2 / expected).sum(1).mean() / (CLASSES - 1))


def reading(leg, window):
    return Reading(SAMPLES, leg.batch, leg.streams, window)


@pytest.mark.parametrize("window", [100, 500, 4096, 7000, SAMPLES])
@pytest.mark.parametrize("layout", [Leg(1, 128), Leg(2, 128), Leg(6, 384), Leg(8, 64), Leg(8, 100)], ids=str)
@pytest.mark.parametrize(
    "split",
    [SORTED, SHUFFLED, SORTED_WITHIN, ALTERNATING, UNEVEN],
    ids=["sorted", "shuffled", "within", "two", "uneven"],
)
def test_what_is_expected_of_a_batch_is_what_it_holds(split, layout, window):
    expected = batch_chi2(measure_clustering(split), reading(layout, window))
    found = measured_chi2(split, layout, window)
    if window > PER_SHARD:
        assert expected == pytest.approx(found, rel=0.35, abs=0.3)
    assert (expected > BAD) == (found > BAD)


@pytest.mark.parametrize(("layout", "most", "lag"), [(Leg(2, 128), 8, 0.2), (Leg(6, 384), 1.1, -0.2)], ids=str)
def test_batches_of_sorted_shards_draw_on_the_windows_of_all_streams(layout, most, lag):
    """Two streams that made whole batches in turns came to 16, 8 with three processes, and to correlations of -0.2 and
    -0.8 from batch to batch."""
    assert measured_chi2(SORTED, layout, 4096) < most
    counts = counts_of_batches(SORTED, layout, 4096).astype(float)
    counts -= counts.mean(0)
    assert (counts[1:] * counts[:-1]).sum() / (counts**2).sum() > lag


def test_a_good_window_is_the_shortest_that_is_good():
    clustering, layout = measure_clustering(SORTED), Leg(2, 128)
    window = good_window(clustering, reading(layout, 4096))
    assert window == SAMPLES // 2
    assert measured_chi2(SORTED, layout, window) < GOOD
    larger = good_window(clustering, replace(reading(layout, 4096), batch=16))
    assert PER_SHARD < larger < SAMPLES // 2
    assert batch_chi2(clustering, replace(reading(layout, larger), batch=16)) <= GOOD
    assert batch_chi2(clustering, replace(reading(layout, larger - 1000), batch=16)) > GOOD


def test_what_cannot_be_said_is_not():
    assert measure_clustering([]) == measure_clustering([np.zeros(5, np.int64)]) == {}
    assert batch_chi2({}, Reading(10, 2, 1, 1)) == 1
    assert measure_clustering([np.array([0, 1])] * 3) == {2: 0}


def write_foreign(root, labels, per_shard, classes):
    """Shards as others write them, with an index of ours."""
    write_shards(root, ((f"{i:05d}", "jpg", b"no image", int(n)) for i, n in enumerate(labels)), classes, per_shard)
    assert shards(["index", str(root)]) == 0


def write_sorted(root):
    """800 samples of ten classes, sorted by class."""
    write_foreign(root / "train", np.repeat(np.arange(10), 80), 20, "abcdefghij")
    write_foreign(root / "val", [0] * 20, 20, "abcdefghij")


@pytest.mark.slow
def test_training_warns_of_shards_sorted_by_class_with_the_window_that_mixes_them(tmp_path):
    write_sorted(tmp_path)
    assert read_index(tmp_path / "train").clustering == {20: 20.0}
    given = ["model=test_efficientnet", "data=shards", f"data.root={tmp_path}", "train.global_batch=64"]

    def warnings(*more):
        return [note for note in check([*given, *more]).notes if note.startswith("warning: the classes")]

    one = "data.streams=1"
    assert warnings() == warnings("data.shuffle_window=100") == []  # eight windows hold all
    (warning,) = warnings("data.shuffle_window=100", one)
    assert "a batch of 64 is no more even in its classes than 5 shuffled images" in warning
    assert "data.shuffle_window=800 makes that 1.0; a host then holds 4.1 MB of encoded images, now 0.5 MB" in warning
    assert warnings("data.shuffle_window=100", one, "data.workers=4") == [warning]  # workers mix nothing
    (warning,) = warnings("data.shuffle_window=100", "data.streams=4")
    assert "data.shuffle_window=200 " in warning  # of each stream
    assert warnings("data.shuffle_window=200", "data.streams=4") == []
    (warning,) = warnings("data.shuffle_window=10")
    assert "data.shuffle_window=100 " in warning
    many = check([*given, "data.streams=900"]).dataset.train
    assert (many.streams, many.reading(64, 1).streams) == (900, 64)  # of the others no batch has a row
    (both,) = warnings("data.shuffle_window=100", one, "data.train='{train,val}'")
    assert "shuffle_window=820 " in both


@pytest.mark.slow
def test_a_run_warns_before_its_replicas_start(tmp_path, monkeypatch, capsys):
    def launch(*_, **__):
        said.append(capsys.readouterr().err)
        raise ReplicaError("no replica was started")

    said = []
    write_sorted(tmp_path)
    monkeypatch.setattr("xlatrain.xla.launch.launch", launch)
    capsys.readouterr()
    options = ["data=shards", f"data.root={tmp_path}", "train.global_batch=64", "data.shuffle_window=10"]
    with pytest.raises(ReplicaError, match="no replica"):
        train(["model=test_efficientnet", *options, f"run.root={tmp_path}"])
    assert said[0].startswith("warning: the classes lie together in the shards of training")


@pytest.mark.slow
def test_index_and_info_say_where_classes_lie_together(tmp_path, capsys):
    """Eight default windows of 1,024 do not mix 9,000 samples; shuffled, nothing is said."""
    labels = np.repeat(np.arange(3), 3000)
    for name, of_shards in (("sorted", labels), ("shuffled", np.random.default_rng(0).permutation(labels))):
        write_foreign(tmp_path / name, of_shards, 500, "abc")
        assert shards(["info", str(tmp_path / name)]) == 0
        said = ("the classes lie together: " in text for text in capsys.readouterr())
        assert list(said) == [name == "sorted"] * 2
