"""A data set is its splits, which agree with each other, whatever shards they are made of."""

import pytest
import torch

from tests.shards import picture, plain_augment, write
from xlatrain.config.schema import DigitsConfig, ShardsConfig
from xlatrain.data import digits, order
from xlatrain.data.dataset import open_dataset
from xlatrain.data.phase import Place
from xlatrain.data.shard_format import read_shard, write_shards
from xlatrain.errors import ConfigError


def test_digits_are_1797_real_images_split_by_class(tmp_path):
    data = open_dataset(DigitsConfig(root=str(tmp_path / "d"), image_size=32), plain_augment())
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


def test_class_names_of_training_and_validation_must_agree(tmp_path):
    write_shards(tmp_path / "train", [("a", "png", picture(1), 0)], ["x", "y", "z"])
    write_shards(tmp_path / "val", [("a", "png", picture(1), 0)], ["x", "y"])
    with pytest.raises(ConfigError, match="has 3 classes, .*val has 2"):
        open_dataset(ShardsConfig(root=str(tmp_path), image_size=8), plain_augment())


def test_braces_join_several_folders_to_one_split(tmp_path):
    for name, count in (("a", 25), ("b", 15), ("val", 5)):
        write(tmp_path / name, count=count)
    data = open_dataset(ShardsConfig(root=str(tmp_path), train="{a,b}", image_size=8), plain_augment())
    assert (data.train.samples, data.val.samples) == (40, 5)
    keys = [s.key for s in data.train.read(order.plain_line(data.train.sizes), 20, 40)]
    assert keys == [f"{i:04d}" for i in (*range(20, 25), *range(15))]
