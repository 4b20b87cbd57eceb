"""Shards are written the same each time and read whole; what is damaged is named, never silently dropped."""

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from xlatrain.config.schema import AugmentConfig, DigitsConfig, ShardsConfig
from xlatrain.data import digits, order
from xlatrain.data.dataset import open_dataset
from xlatrain.data.order import Leg, Position
from xlatrain.data.phase import Phase, Place
from xlatrain.data.pipeline import ShardedSplit
from xlatrain.data.pixels.crop import CentreCrop
from xlatrain.data.pixels.decode import decode_image
from xlatrain.data.shard_format import Shard, ShardIndex, read_index, read_shard, write_shards
from xlatrain.data.synthetic import SyntheticSplit
from xlatrain.errors import ConfigError, DataError


def picture(i):
    return digits._png(np.full((8, 8), float(i % 17)))


def write(root, count=25, per_shard=10):
    return write_shards(
        root,
        ((f"{i:04d}", "png", picture(i), i % 10) for i in range(count)),
        [str(c) for c in range(10)],
        samples_per_shard=per_shard,
    )


def split(root, shift=0, **options):
    config = ShardsConfig(root=str(root), image_size=8, eval_padding=0, **options)
    return ShardedSplit(read_index(root), config, AugmentConfig(name="none", shift=shift), 10)


def train(split, batch, seed=0, start=None, place=None):
    """Training batches of one process."""
    place = place or Place(0, 1)
    return split.train_batches(place, seed, (Phase(0, batch * place.processes, 8),), start or Position())


def decoded(encoded):
    return decode_image(encoded, 8, CentreCrop(8, 0))


def all_keys(index):
    return [s.key for n, shard in enumerate(index.shards) for s in read_shard(index, shard, n * 10)]


def test_what_is_written_is_read_back_in_order(tmp_path):
    index = write(tmp_path)
    assert [(s.name, s.samples) for s in index.shards] == [
        ("shard-000000.tar", 10),
        ("shard-000001.tar", 10),
        ("shard-000002.tar", 5),
    ]
    assert read_index(tmp_path) == index
    assert all_keys(index) == [f"{i:04d}" for i in range(25)]
    samples = list(read_shard(index, index.shards[2], 20))
    assert [(s.number, s.label, s.image) for s in samples] == [(i, i % 10, picture(i)) for i in range(20, 25)]


def test_writing_is_deterministic(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert (tmp_path / "a/shard-000001.tar").read_bytes() == (tmp_path / "b/shard-000001.tar").read_bytes()


def test_digits_are_1797_real_images_split_by_class(tmp_path):
    data = open_dataset(DigitsConfig(root=str(tmp_path / "d"), image_size=32), _augment())
    assert (data.train.samples, data.val.samples, data.num_classes) == (1437, 360, 10)
    labels = torch.cat([b["labels"][b["mask"] > 0] for b in data.val.eval_batches(Place(0, 1), 64)])
    assert labels.bincount().tolist() == pytest.approx([36] * 10, abs=1)
    keys = [
        {s.key for i in index.shards for s in read_shard(index, i, 0)} for index in (data.train.index, data.val.index)
    ]
    assert len(keys[0] | keys[1]) == 1797
    before = (tmp_path / "d/val/index.json").stat().st_mtime_ns
    digits.write_digits(tmp_path / "d", 0.2)
    assert (tmp_path / "d/val/index.json").stat().st_mtime_ns == before


def _augment():
    return AugmentConfig(name="none")


def damage_image(path, member_number):
    """Overwrite the inside of an image, leaving the tar whole; returns the sample's key."""
    with tarfile.open(path) as archive:
        member = [m for m in archive if m.name.endswith(".png")][member_number]
    with open(path, "r+b") as file:
        file.seek(member.offset_data + 20)
        file.write(b"\0" * 30)
    return member.name.removesuffix(".png")


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


def test_a_truncated_shard_is_an_error_even_when_samples_may_be_skipped(tmp_path):
    index = write(tmp_path)
    opened = split(tmp_path, on_error="skip")
    path = tmp_path / "shard-000001.tar"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ConfigError, match="another length than its index says, shard-000001.tar"):
        read_index(tmp_path)
    with pytest.raises(DataError, match="shard-000001.tar.*cut short at byte 5000"):
        all_keys(index)
    with pytest.raises(DataError, match="shard-000001.tar"):
        list(opened.eval_batches(Place(0, 1), 8))


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


def test_a_name_that_climbs_out_of_the_archive_is_refused(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../../etc/a.jpg"))
    index = ShardIndex(str(tmp_path), (Shard("s.tar", 1),), ("only",))
    with pytest.raises(DataError, match="climbs out of the archive"):
        list(read_shard(index, index.shards[0]))


def test_reading_starts_anywhere_without_reading_what_is_before(tmp_path):
    index = write(tmp_path, count=300, per_shard=150)
    shard = index.shards[1]
    assert len(shard.marks) == 3
    for first, last in ((0, 150), (63, 65), (64, 64 + 1), (100, 149), (149, 150)):
        numbers = [s.number for s in read_shard(index, shard, 150, first, last)]
        assert numbers == list(range(150 + first, 150 + last))
    with open(tmp_path / shard.name, "r+b") as file:  # what lies before the mark may be broken: it is not looked at
        file.write(b"x" * shard.marks[1])
    assert [s.number for s in read_shard(index, shard, 150, 70, 72)] == [220, 221]


def test_class_names_of_training_and_validation_must_agree(tmp_path):
    write_shards(tmp_path / "train", [("a", "png", picture(1), 0)], ["x", "y", "z"])
    write_shards(tmp_path / "val", [("a", "png", picture(1), 0)], ["x", "y"])
    with pytest.raises(ConfigError, match="has 3 classes, .*val has 2"):
        open_dataset(ShardsConfig(root=str(tmp_path), image_size=8), _augment())


def test_braces_join_several_folders_to_one_split(tmp_path):
    for name, count in (("a", 25), ("b", 15), ("val", 5)):
        write(tmp_path / name, count=count)
    data = open_dataset(ShardsConfig(root=str(tmp_path), train="{a,b}", image_size=8), _augment())
    assert (data.train.samples, data.val.samples) == (40, 5)
    keys = [s.key for s in data.train.read(order.plain_line(data.train.sizes), 20, 40)]
    assert keys == [f"{i:04d}" for i in (*range(20, 25), *range(15))]


def test_what_remains_of_an_epoch_is_read_by_another_number_of_processes(tmp_path):
    """Two processes of two workers stop after three steps; three processes of none finish the epoch."""
    write(tmp_path, count=170)
    first = split(tmp_path, workers=2, shuffle_window=16)
    images = []
    for process in range(2):
        batches = train(first, 10, seed=5, place=Place(process, 2))
        images += [image for _ in range(3) for image in next(batches)["images"]]
        batches.close()
    start = Position(0).under(Leg(2, 2, 10)).advance(3)
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
    start = Position(1, step=4).under(Leg(1, 1, 10)).advance(2).under(Leg(1, 1, 7)).advance(1)
    assert start.step == 7
    found = next(split(tmp_path).train_batches(Place(0, 1), 0, phases, start))
    assert all(torch.equal(found[k], expected[k]) for k in expected)


def test_random_images_change_size_at_their_step_too():
    phases = (Phase(0, 10, 8), Phase(6, 7, 12))
    batches = SyntheticSplit(25, 8, 10).train_batches(Place(0, 1), 0, phases, Position(step=4))
    assert [tuple(next(batches)["images"].shape[:2]) for _ in range(4)] == [(10, 8)] * 2 + [(7, 12)] * 2


def test_a_shard_shorter_than_its_index_says_is_an_error(tmp_path):
    index = write(tmp_path)
    short = replace(index.shards[0], samples=12)
    with pytest.raises(DataError, match="ends after 10 samples; its index says 12"):
        list(read_shard(index, short, 0))


def test_a_shard_longer_than_its_index_says_is_an_error(tmp_path):
    index = write(tmp_path)
    with pytest.raises(DataError, match="goes on after the 7 samples"):
        list(read_shard(index, replace(index.shards[0], samples=7), 0))
    shards = (*index.shards[:2], replace(index.shards[2], samples=3))
    # 23 samples fill the batch: only the reader can see that there are more.
    for workers in (0, 2):
        short = replace(split(tmp_path, workers=workers), index=replace(index, shards=shards))
        with pytest.raises(DataError, match="goes on after the 3 samples"):
            list(short.eval_batches(Place(0, 1), 23))


@pytest.mark.parametrize("entry", [{"samples": "5"}, {"samples": -5}])
def test_an_index_that_cannot_be_is_refused(tmp_path, entry):
    write(tmp_path)
    content = json.loads((tmp_path / "index.json").read_text())
    content["shards"][0] |= entry
    (tmp_path / "index.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="not an index"):
        read_index(tmp_path)


def test_incomplete_samples_and_wrong_labels_are_named(tmp_path):
    import webdataset

    with webdataset.TarWriter(str(tmp_path / "s.tar")) as writer:
        writer.write({"__key__": "a", "png": picture(0), "cls": b"x"})
    index = ShardIndex(str(tmp_path), (Shard("s.tar", 1),), ("only",))
    with webdataset.TarWriter(str(tmp_path / "m.tar")) as writer:
        writer.write({"__key__": "b", "cls": b"0", "json": b"{}"})
    without = ShardIndex(str(tmp_path), (Shard("m.tar", 1),), ("only",))
    with pytest.raises(DataError, match=r"'b' .*has no image"):
        list(read_shard(without, without.shards[0]))
    with pytest.raises(DataError, match=r"'a' .*its label \(cls\) is no class number: b'x'"):
        list(read_shard(index, index.shards[0]))
    write_shards(tmp_path / "big", [("k", "png", picture(0), 10)], ["only"])
    with pytest.raises(DataError, match="label 10 is outside 0..0"):
        next(replace(split(tmp_path / "big"), classes=1).eval_batches(Place(0, 1), 1))


def test_a_missing_shard_or_a_broken_index_is_a_configuration_error(tmp_path):
    write(tmp_path)
    (tmp_path / "shard-000001.tar").unlink()
    with pytest.raises(ConfigError, match="shard-000001.tar"):
        read_index(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"shards": [{"name": 1}]}))
    with pytest.raises(ConfigError, match="not an index"):
        read_index(tmp_path)


@pytest.mark.parametrize("window", [1, 7, 100])
def test_an_epoch_holds_each_image_once_and_the_next_another_order(tmp_path, window):
    write(tmp_path, count=40)
    batches = train(split(tmp_path, shuffle_window=window), 8, seed=1)
    epochs = [torch.cat([next(batches)["images"][:, 0, 0, 0] for _ in range(5)]) for _ in range(2)]
    expected = sorted(int(decoded(picture(i))[0, 0, 0]) for i in range(40))
    assert [sorted(e.tolist()) for e in epochs] == [expected, expected]
    assert not torch.equal(*epochs)


@pytest.mark.parametrize("step", [1, 4, 5, 7, 13])
@pytest.mark.parametrize("workers", [0, 2])
def test_starting_at_a_step_equals_having_come_to_it(tmp_path, step, workers):
    write(tmp_path, count=43)
    whole = train(split(tmp_path, shift=2, workers=workers, shuffle_window=7), 8, seed=1)
    for _ in range(step):
        next(whole)
    # 43 samples are 5 batches an epoch.
    start = Position(step // 5, step=step // 5 * 5).under(Leg(1, max(1, workers), 8)).advance(step % 5)
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
