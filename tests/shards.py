"""Small shards, the split of them, and its batches: what tests of several rooms use."""

import tarfile

import numpy as np

from xlatrain.config.schema import AugmentConfig, ShardsConfig
from xlatrain.data import digits
from xlatrain.data.order import Position
from xlatrain.data.phase import Phase, Place
from xlatrain.data.pixels.crop import CentreCrop
from xlatrain.data.pixels.decode import decode_image
from xlatrain.data.shard_format import read_index, write_shards
from xlatrain.data.sharded import ShardedSplit


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


def plain_augment():
    return AugmentConfig(name="none")


def damage_image(path, member_number):
    """Overwrite the inside of an image, leaving the tar whole; returns the sample's key."""
    with tarfile.open(path) as archive:
        member = [m for m in archive if m.name.endswith(".png")][member_number]
    with open(path, "r+b") as file:
        file.seek(member.offset_data + 20)
        file.write(b"\0" * 30)
    return member.name.removesuffix(".png")
