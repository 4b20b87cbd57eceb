"""Shards are written the same each time and read whole; what is damaged is named, never silently dropped."""

import json
import tarfile
from dataclasses import replace

import pytest

from tests.shards import picture, split, write
from xlatrain.data.phase import Place
from xlatrain.data.shard_format import Shard, ShardIndex, read_index, read_shard, write_shards
from xlatrain.errors import ConfigError, DataError


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
