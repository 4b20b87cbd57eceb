"""A data set as the run sees it: sizes, class count, and streams of host batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from xlatrain.config import AugmentConfig, DataConfig, DigitsConfig, ShardsConfig, SyntheticConfig
from xlatrain.data import digits
from xlatrain.data.sharded import ShardedSplit
from xlatrain.data.shards import read_index
from xlatrain.data.synthetic import SyntheticSplit
from xlatrain.errors import ConfigError, Fault

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Place:
    """A process among all, and the images of one batch for all its replicas."""

    process: int
    processes: int
    batch: int


class Split(Protocol):
    """One half of a data set. Picklable; opens nothing until it is read."""

    samples: int

    def train_batches(self, place: Place, seed: int, first_step: int) -> Iterator[Batch]:
        """Endless batches from a step on: images uint8 [batch, H, W, 3], labels int64 [batch], skipped float32 [batch],
        1 where an image could not be decoded and another stands in. Each epoch has samples // global batch of them."""
        ...

    def eval_batches(self, place: Place) -> Iterator[Batch]:
        """Each sample once, in batches of one shape: as above, and mask float32 [batch], 0 for padding and for images
        that could not be decoded."""
        ...


@dataclass(frozen=True)
class Dataset:
    train: Split
    val: Split
    num_classes: int


def open_dataset(config: DataConfig, augment: AugmentConfig) -> Dataset:
    """Find (or, for digits, write) the data that a configuration names. Reads indexes only. Raises ConfigError."""
    match config:
        case DigitsConfig():
            _check_digits(config)
            root = Path(config.root) if config.root else digits.default_root(config.val_fraction)
            try:
                digits.write_digits(root, config.val_fraction)
                return _open_shards(root, config, augment)
            except OSError as error:
                raise ConfigError(
                    Fault("data.root", f"{root} cannot be written: {error}", "name a folder of yours")
                ) from None
            except ConfigError as error:
                raise ConfigError(
                    Fault("data.root", error.faults[0].problem, f"delete {root}: it is written anew")
                ) from None
        case ShardsConfig():
            return _open_shards(Path(config.root), config, augment)
        case SyntheticConfig():
            classes = config.num_classes or 1000
            splits = [
                SyntheticSplit(n, config.image_size, classes) for n in (config.train_examples, config.val_examples)
            ]
            return Dataset(*splits, num_classes=classes)
    raise ValueError(f"no data set for {type(config).__name__}")


def _check_digits(config: DigitsConfig) -> None:
    val = round(digits.SAMPLES * config.val_fraction)
    if val == 0:
        raise ConfigError(
            Fault(
                "data.val_fraction",
                f"{config.val_fraction} leaves the validation set empty",
                "take a fraction between 0.01 and 0.9, for instance 0.2 (360 images)",
            )
        )
    if not 10 <= val <= digits.SAMPLES - 10:
        raise ConfigError(
            Fault(
                "data.val_fraction",
                f"{config.val_fraction} leaves classes without images",
                "take a fraction between 0.01 and 0.9, for instance 0.2 (360 images)",
            )
        )


def _open_shards(root: Path, config: ShardsConfig, augment: AugmentConfig) -> Dataset:
    train, val = read_index(root / "train"), read_index(root / "val")
    for name, index in (("train", train), ("val", val)):
        if index.samples == 0:
            what = "validation" if name == "val" else "training"
            raise ConfigError(
                Fault("data.root", f"the {what} set under {root / name} is empty", "write at least one sample to it")
            )
    classes = len(train.class_names)
    if config.num_classes is not None and config.num_classes < classes:
        raise ConfigError(
            Fault(
                "data.num_classes",
                f"{config.num_classes}, but {root} has {classes} classes",
                f"set data.num_classes={classes}, or leave it null",
            )
        )
    return Dataset(
        ShardedSplit(train, config, augment.shift), ShardedSplit(val, config, 0), config.num_classes or classes
    )
