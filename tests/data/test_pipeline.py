"""Shards are written the same each time and read whole; what is damaged is named, never silently dropped."""

import pytest
import torch

from tests.shards import damage_image, decoded, picture, split, train, write
from xlatrain.data.dataset import position_after
from xlatrain.data.order import Leg, Position
from xlatrain.data.phase import Phase, Place
from xlatrain.data.shard_format import write_shards
from xlatrain.data.synthetic import SyntheticSplit
from xlatrain.errors import DataError


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_ends_the_run_with_shard_and_sample_named(tmp_path, workers):
    write(tmp_path)
    key = damage_image(tmp_path / "shard-000001.tar", 4)
    batches = train(split(tmp_path, workers=workers), 25)
    with pytest.raises(DataError) as error:
        next(batches)
    assert f"{key!r}" in str(error.value)
    assert "shard-000001.tar" in str(error.value)


def test_a_corrupt_image_can_be_skipped_and_is_counted(tmp_path):
    write(tmp_path)
    damage_image(tmp_path / "shard-000001.tar", 4)
    lenient = split(tmp_path, on_error="skip")
    batch = next(train(lenient, 25))
    assert batch["skipped"].sum() == 1
    assert batch["images"].shape == (25, 8, 8, 3)
    evaluated = list(lenient.eval_batches(Place(0, 1), 8))
    assert sum(b["mask"].sum() for b in evaluated) == 24
    assert sum(b["skipped"].sum() for b in evaluated) == 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 5])
def test_a_good_image_of_the_batch_stands_in_whichever_worker_made_it(tmp_path, workers):
    """Five workers fill one row each of a batch of five."""
    index = write(tmp_path, count=50)
    for number in (0, 3):
        damage_image(tmp_path / "shard-000001.tar", number)
    batches = train(split(tmp_path, on_error="skip", workers=workers), 5)
    epoch = [b for b, _ in zip(batches, range(10), strict=False)]
    assert sum(b["skipped"].sum() for b in epoch) == 2
    for batch in epoch:
        rows = [
            (int(image[0, 0, 0]), int(label)) for image, label in zip(batch["images"], batch["labels"], strict=True)
        ]
        assert set(rows) == {row for row, skipped in zip(rows, batch["skipped"], strict=True) if not skipped}
    for shard in index.shards:
        for number in range(shard.samples):
            damage_image(tmp_path / shard.name, number)
    with pytest.raises(DataError, match="shard-00000..tar.* and all others of its batch cannot be decoded"):
        next(train(split(tmp_path, on_error="skip", workers=workers), 5))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_deleted_during_the_run_is_named(tmp_path, workers):
    write(tmp_path, count=200)
    batches = train(split(tmp_path, shuffle_window=10, workers=workers), 10)
    next(batches)
    for shard in tmp_path.glob("*.tar"):
        shard.unlink()
    with pytest.raises(DataError, match=r"the shard .*shard-0000\d\d.tar is no longer there"):
        [next(batches) for _ in range(40)]


def test_a_zero_byte_image_is_named_and_can_be_skipped(tmp_path):
    write_shards(tmp_path, [("a", "jpg", b"", 0), ("b", "png", picture(1), 1)], ["x", "y"])
    with pytest.raises(DataError, match="sample 'a' .*cannot be decoded"):
        next(train(split(tmp_path), 2))
    assert next(train(split(tmp_path, on_error="skip"), 2))["skipped"].sum() == 1


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    write_shards(tmp_path, [("a", "png", picture(1), 0)], ["x"])
    with pytest.raises(DataError, match="sample 'a' .*8 x 8 pixels are more than the 63 allowed"):
        next(train(split(tmp_path, max_pixels=63), 1))


def test_what_remains_of_an_epoch_is_read_by_another_number_of_processes(tmp_path):
    """Two processes of two workers stop after three steps; three processes of none finish the epoch."""
    write(tmp_path, count=170)
    first = split(tmp_path, workers=2, shuffle_window=16)
    images = []
    for process in range(2):
        batches = train(first, 10, seed=5, place=Place(process, 2))
        images += [image for _ in range(3) for image in next(batches)["images"]]
        batches.close()
    start = Position(0).under(Leg(8, 20)).advance(3)
    for process in range(3):
        batches = train(split(tmp_path, shuffle_window=16), 12, 5, start, Place(process, 3))
        images += [image for _ in range(110 // 36) for image in next(batches)["images"]]
    values = sorted(int(image[0, 0, 0]) for image in images)
    whole = sorted(int(decoded(picture(i))[0, 0, 0]) for i in range(170))
    assert len(values) == 60 + 108
    for value in values:  # two samples are the remainder
        whole.remove(value)
    assert len(whole) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_sizes_and_batches_change_at_their_step_and_an_epoch_stays_whole(tmp_path, workers):
    """40 images, 10 a step: 4 steps are an epoch; in the second the size changes, then the batch, to 7, with 10 images
    left; in the fourth to 8, with 33 left. Each epoch reads what such a batch can, and no image twice."""
    write(tmp_path, count=40)
    phases = (Phase(0, 10, 8), Phase(6, 10, 12), Phase(7, 7, 12), Phase(14, 8, 16))
    batches = split(tmp_path, workers=workers).train_batches(Place(0, 1), 0, phases, Position())
    found = [next(batches) for _ in range(4 + 3 + 1 + 5 + 1 + 4 + 5)]
    shapes = [tuple(b["images"].shape[:2]) for b in found]
    assert shapes == [(10, 8)] * 6 + [(10, 12)] + [(7, 12)] * 7 + [(8, 16)] * 9
    epochs = [found[:4], found[4:8], found[8:13], found[13:18], found[18:]]
    assert [len(torch.cat([b["labels"] for b in e])) for e in epochs] == [40, 37, 35, 39, 40]
    for epoch in epochs:
        pairs = [(int(i[0, 0, 0]), int(n)) for b in epoch for i, n in zip(b["images"], b["labels"], strict=True)]
        assert len(set(pairs)) == len(pairs)  # no image twice: value and label tell all 40 apart


def test_a_start_after_sizes_changed_equals_having_come_to_it(tmp_path):
    write(tmp_path, count=40)
    phases = (Phase(0, 10, 8), Phase(6, 7, 12))
    whole = split(tmp_path).train_batches(Place(0, 1), 0, phases, Position())
    *_, expected = (next(whole) for _ in range(8))
    start = Position(1, step=4).under(Leg(8, 10)).advance(2).under(Leg(8, 7)).advance(1)
    assert start.step == 7
    found = next(split(tmp_path).train_batches(Place(0, 1), 0, phases, start))
    assert all(torch.equal(found[k], expected[k]) for k in expected)


def test_a_position_after_any_steps_is_where_the_next_batch_is_read(tmp_path):
    """Also where an epoch ends, or a size, and after several stops."""
    write(tmp_path, count=40)
    phases, images = (Phase(0, 10, 8), Phase(6, 7, 12)), split(tmp_path)
    whole = images.train_batches(Place(0, 1), 0, phases, Position())
    stop = Position()
    for steps in range(12):
        expected = next(whole)
        start = position_after(images, 0, phases, Position(), steps)
        assert start.step == steps
        found = next(images.train_batches(Place(0, 1), 0, phases, start))
        assert all(torch.equal(found[k], expected[k]) for k in expected)
        if steps % 3 == 0:
            assert position_after(images, 0, phases, stop, steps - stop.step) == start
            stop = start
    assert position_after(SyntheticSplit(25, 8, 10), 0, phases, Position(step=4), 3) == Position(step=7)


def test_random_images_change_size_at_their_step_too():
    phases = (Phase(0, 10, 8), Phase(6, 7, 12))
    batches = SyntheticSplit(25, 8, 10).train_batches(Place(0, 1), 0, phases, Position(step=4))
    assert [tuple(next(batches)["images"].shape[:2]) for _ in range(4)] == [(10, 8)] * 2 + [(7, 12)] * 2


@pytest.mark.parametrize("window", [1, 7, 100])
def test_an_epoch_holds_each_image_once_and_the_next_another_order(tmp_path, window):
    write(tmp_path, count=40)
    batches = train(split(tmp_path, shuffle_window=window), 8, seed=1)
    epochs = [torch.cat([next(batches)["images"][:, 0, 0, 0] for _ in range(5)]) for _ in range(2)]
    expected = sorted(int(decoded(picture(i))[0, 0, 0]) for i in range(40))
    assert [sorted(e.tolist()) for e in epochs] == [expected, expected]
    assert not torch.equal(*epochs)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 4, 5, 7, 13])
@pytest.mark.parametrize("workers", [0, 2])
def test_starting_at_a_step_equals_having_come_to_it(tmp_path, step, workers):
    write(tmp_path, count=43)
    whole = train(split(tmp_path, shift=2, workers=workers, shuffle_window=7), 8, seed=1)
    for _ in range(step):
        next(whole)
    # 43 samples are 5 batches an epoch.
    start = Position(step // 5, step=step // 5 * 5).under(Leg(8, 8)).advance(step % 5)
    seeking = train(split(tmp_path, shift=2, workers=workers, shuffle_window=7), 8, 1, start)
    for _ in range(4):
        a, b = next(whole), next(seeking)
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_processes_share_the_epoch_out(tmp_path):
    write(tmp_path, count=48)
    values = []
    for process in range(3):
        batches = train(split(tmp_path), 4, seed=1, place=Place(process, 3))
        values += [int(v) for _ in range(4) for v in next(batches)["images"][:, 0, 0, 0]]
    assert sorted(values) == sorted(int(decoded(picture(i))[0, 0, 0]) for i in range(48))


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "batch", "workers"), [(1, 7, 0), (1, 4, 3), (3, 8, 0), (4, 64, 2), (8, 1, 0)])
def test_evaluation_counts_each_image_once_on_any_number_of_processes(tmp_path, processes, batch, workers):
    write(tmp_path)
    shapes, counted = set(), []
    for process in range(processes):
        for b in split(tmp_path, workers=workers).eval_batches(Place(process, processes), batch):
            shapes.add(tuple(b["images"].shape))
            counted += b["labels"][b["mask"] > 0].tolist()
    assert shapes == {(batch, 8, 8, 3)}
    assert sorted(counted) == sorted(i % 10 for i in range(25))
