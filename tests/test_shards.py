"""Shards are written the same each time and read whole; what is damaged is named, never silently dropped."""

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from xlatrain.config import DigitsConfig, ShardsConfig
from xlatrain.data import digits, order
from xlatrain.data.dataset import Place, open_dataset
from xlatrain.data.decode import decode_image, shift_image
from xlatrain.data.sharded import ShardedSplit
from xlatrain.data.shards import read_index, read_shard, write_shards
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
    return ShardedSplit(read_index(root), ShardsConfig(root=str(root), image_size=8, **options), shift)


def all_keys(index):
    return [s.key for n, shard in enumerate(index.shards) for s in read_shard(index.root, shard, n * 10)]


def test_what_is_written_is_read_back_in_order(tmp_path):
    index = write(tmp_path)
    assert [(s.name, s.samples) for s in index.shards] == [
        ("shard-000000.tar", 10),
        ("shard-000001.tar", 10),
        ("shard-000002.tar", 5),
    ]
    assert read_index(tmp_path) == index
    assert all_keys(index) == [f"{i:04d}" for i in range(25)]
    samples = list(read_shard(tmp_path, index.shards[2], 20))
    assert [(s.number, s.label, s.image) for s in samples] == [(i, i % 10, picture(i)) for i in range(20, 25)]


def test_writing_is_deterministic(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert (tmp_path / "a/shard-000001.tar").read_bytes() == (tmp_path / "b/shard-000001.tar").read_bytes()


def test_digits_are_1797_real_images_split_by_class(tmp_path):
    data = open_dataset(DigitsConfig(root=str(tmp_path / "d"), image_size=32), _augment())
    assert (data.train.samples, data.val.samples, data.num_classes) == (1437, 360, 10)
    labels = torch.cat([b["labels"][b["mask"] > 0] for b in data.val.eval_batches(Place(0, 1, 64))])
    assert labels.bincount().tolist() == pytest.approx([36] * 10, abs=1)
    keys = [
        {s.key for i in index.shards for s in read_shard(index.root, i, 0)}
        for index in (data.train.index, data.val.index)
    ]
    assert len(keys[0] | keys[1]) == 1797
    before = (tmp_path / "d/val/index.json").stat().st_mtime_ns
    digits.write_digits(tmp_path / "d", 0.2)
    assert (tmp_path / "d/val/index.json").stat().st_mtime_ns == before


def _augment():
    from xlatrain.config import AugmentConfig

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
    batches = split(tmp_path, workers=workers).train_batches(Place(0, 1, 25), seed=0, first_step=0)
    with pytest.raises(DataError) as error:
        next(batches)
    assert f"{key!r}" in str(error.value)
    assert "shard-000001.tar" in str(error.value)


def test_a_corrupt_image_can_be_skipped_and_is_counted(tmp_path):
    write(tmp_path)
    damage_image(tmp_path / "shard-000001.tar", 4)
    lenient = split(tmp_path, on_error="skip")
    batch = next(lenient.train_batches(Place(0, 1, 25), seed=0, first_step=0))
    assert batch["skipped"].sum() == 1
    assert batch["images"].shape == (25, 8, 8, 3)
    evaluated = list(lenient.eval_batches(Place(0, 1, 8)))
    assert sum(b["mask"].sum() for b in evaluated) == 24
    assert sum(b["skipped"].sum() for b in evaluated) == 1


def test_a_truncated_shard_is_an_error_even_when_samples_may_be_skipped(tmp_path):
    index = write(tmp_path)
    path = tmp_path / "shard-000001.tar"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="shard-000001.tar"):
        all_keys(index)
    with pytest.raises(DataError, match="shard-000001.tar"):
        list(split(tmp_path, on_error="skip").eval_batches(Place(0, 1, 8)))


def test_a_shard_shorter_than_its_index_says_is_an_error(tmp_path):
    index = write(tmp_path)
    short = replace(index.shards[0], samples=12)
    with pytest.raises(DataError, match="ends after 10 samples; its index says 12"):
        list(read_shard(tmp_path, short, 0))


def test_a_shard_longer_than_its_index_says_is_an_error(tmp_path):
    index = write(tmp_path)
    with pytest.raises(DataError, match="goes on after the 7 samples"):
        list(read_shard(tmp_path, replace(index.shards[0], samples=7), 0))
    shards = (*index.shards[:2], replace(index.shards[2], samples=3))
    # 23 samples fill the batch: only the reader can see that there are more.
    short = ShardedSplit(replace(index, shards=shards), ShardsConfig(root="", image_size=8), 0)
    with pytest.raises(DataError, match="goes on after the 3 samples"):
        list(short.eval_batches(Place(0, 1, 23)))


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
    shard = read_shard(tmp_path, replace(write(tmp_path / "w").shards[0], name="s.tar", samples=1), 0)
    with pytest.raises(DataError, match=r"'a' .*no label"):
        list(shard)
    write_shards(tmp_path / "big", [("k", "png", picture(0), 10)], ["only"])
    with pytest.raises(DataError, match="label 10 is outside 0..0"):
        next(split(tmp_path / "big").eval_batches(Place(0, 1, 1)))


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
    batches = split(tmp_path, shuffle_window=window).train_batches(Place(0, 1, 8), seed=1, first_step=0)
    epochs = [torch.cat([next(batches)["images"][:, 0, 0, 0] for _ in range(5)]) for _ in range(2)]
    expected = sorted(int(decode_image(picture(i), 8)[0, 0, 0]) for i in range(40))
    assert [sorted(e.tolist()) for e in epochs] == [expected, expected]
    assert not torch.equal(*epochs)


@pytest.mark.parametrize("step", [1, 4, 5, 7, 13])
@pytest.mark.parametrize("workers", [0, 2])
def test_starting_at_a_step_equals_having_come_to_it(tmp_path, step, workers):
    write(tmp_path, count=43)
    whole = split(tmp_path, shift=2, workers=workers).train_batches(Place(0, 1, 8), seed=1, first_step=0)
    for _ in range(step):
        next(whole)
    seeking = split(tmp_path, shift=2, workers=workers).train_batches(Place(0, 1, 8), seed=1, first_step=step)
    for _ in range(4):
        a, b = next(whole), next(seeking)
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_processes_share_the_epoch_out(tmp_path):
    write(tmp_path, count=48)
    values = []
    for process in range(3):
        batches = split(tmp_path).train_batches(Place(process, 3, 4), seed=1, first_step=0)
        values += [int(v) for _ in range(4) for v in next(batches)["images"][:, 0, 0, 0]]
    assert sorted(values) == sorted(int(decode_image(picture(i), 8)[0, 0, 0]) for i in range(48))


@pytest.mark.parametrize(("processes", "batch"), [(1, 7), (3, 8), (4, 64)])
def test_evaluation_counts_each_image_once_on_any_number_of_processes(tmp_path, processes, batch):
    write(tmp_path)
    shapes, counted = set(), []
    for process in range(processes):
        for b in split(tmp_path).eval_batches(Place(process, processes, batch)):
            shapes.add(tuple(b["images"].shape))
            counted += b["labels"][b["mask"] > 0].tolist()
    assert shapes == {(batch, 8, 8, 3)}
    assert sorted(counted) == sorted(i % 10 for i in range(25))


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr("xlatrain.data.decode.MAX_PIXELS", 63)
    with pytest.raises(ValueError, match="8 x 8 pixels"):
        decode_image(picture(1), 8)


def test_shift_translates_and_repeats_the_edge():
    image = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    shifted = {shift_image(image, 1, order.sample_generator(0, 0, i)).tobytes() for i in range(200)}
    assert len(shifted) == 9
    assert image.tobytes() in shifted
