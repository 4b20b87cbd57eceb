"""A data set as the run sees it: sizes, class count, and streams of host batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from xlatrain.config.data import (
    AugmentConfig,
    DataConfig,
    DigitsConfig,
    OwnDataConfig,
    ShardsConfig,
    SyntheticConfig,
)
from xlatrain.data import digits
from xlatrain.data.batch import Batch
from xlatrain.data.order import Position
from xlatrain.data.own_data import open_own
from xlatrain.data.phase import Phase, Place
from xlatrain.data.shard_format import ShardIndex, read_index
from xlatrain.data.sharded import ShardedSplit, read_options
from xlatrain.data.storage.streams import check_url, expand_braces, join_url
from xlatrain.data.synthetic import SyntheticSplit
from xlatrain.errors import ConfigError, Fault
from xlatrain.words import counted


class Split(Protocol):
    """One half of a data set. Picklable; opens nothing until it is read."""

    samples: int

    def train_batches(self, place: Place, seed: int, phases: tuple[Phase, ...], start: Position) -> Iterator[Batch]:
        """Endless batches from a position on: images uint8 [batch, H, W, 3], labels int64 [batch], skipped float32
        [batch], 1 where an image could not be decoded and another stands in. An epoch has samples // global batch of
        them, unless its batch changes on the way, each of the size of its phase."""
        ...

    def eval_batches(self, place: Place, batch: int) -> Iterator[Batch]:
        """Each sample once, `batch` of them at a time, in one shape: as above, and mask float32 [batch], 0 for padding
        and for images that could not be decoded."""
        ...


def position_after(split: Split, seed: int, phases: tuple[Phase, ...], start: Position, steps: int) -> Position:
    """Where so many steps more lead to from a position: what a checkpoint holds, to go on from. A split whose samples
    have an order says so by a `position` of these arguments; one of one's own that has none is told the step alone."""
    if hasattr(split, "position"):
        return split.position(seed, phases, start, steps)
    return Position(step=start.step + steps)


@dataclass(frozen=True)
class Dataset:
    train: Split
    val: Split
    num_classes: int
    class_names: tuple[str, ...] = ()  # of the labels in order; none where the data have none


def open_dataset(config: DataConfig, augment: AugmentConfig) -> Dataset:
    """Find (or, for digits, write) the data that a configuration names. Reads indexes only, and of one's own data the
    first sample. Raises ConfigError."""
    match config:
        case DigitsConfig():
            _check_digits(config)
            root = Path(config.root) if config.root else digits.default_root(config.val_fraction)
            try:
                digits.write_digits(root, config.val_fraction)
                return _open_shards(str(root), config, augment)
            except OSError as error:
                raise ConfigError(
                    Fault("data.root", f"{root} cannot be written: {error}", "name a folder of yours")
                ) from None
            except ConfigError as error:
                if (config.train, config.val) != ("train", "val") or error.faults[0].key != "data.root":
                    raise
                raise ConfigError(
                    Fault("data.root", error.faults[0].problem, f"delete {root}: it is written anew")
                ) from None
        case ShardsConfig():
            return _open_shards(config.root, config, augment)
        case SyntheticConfig():
            classes = config.num_classes or 1000
            splits = [
                SyntheticSplit(n, config.image_size, classes, config.repeats)
                for n in (config.train_examples, config.val_examples)
            ]
            return Dataset(*splits, num_classes=classes)
        case OwnDataConfig():
            if not config._target_:
                raise ConfigError(Fault("data._target_", "has no value", "name what gives the data: my.module.Photos"))
            splits, classes, names = open_own(config, augment)
            return Dataset(*splits, num_classes=classes, class_names=names)
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


def _open_shards(root: str, config: ShardsConfig, augment: AugmentConfig) -> Dataset:
    train, val = (_read_split(root, name, config) for name in ("train", "val"))
    for name, index in (("train", train), ("val", val)):
        if index.samples == 0:
            what = "validation" if name == "val" else "training"
            raise ConfigError(
                Fault("data.root", f"the {what} set under {index.root} is empty", "write at least one sample to it")
            )
    if train.class_names != val.class_names:
        raise ConfigError(_other_classes(train, val))
    classes = len(train.class_names)
    if config.num_classes is not None and config.num_classes < classes:
        raise ConfigError(
            Fault(
                "data.num_classes",
                f"{config.num_classes}, but {root} has {counted(classes, 'class')}",
                f"set data.num_classes={classes}, or leave it null",
            )
        )
    classes = config.num_classes or classes
    splits = (ShardedSplit(i, config, augment, classes) for i in (train, val))
    return Dataset(*splits, num_classes=classes, class_names=train.class_names)


def _read_split(root: str, name: str, config: ShardsConfig) -> ShardIndex:
    """The index of a split; several, named by braces, become one."""
    key = f"data.{name}" if getattr(config, name) != name else "data.root"
    indexes = []
    try:
        urls = [join_url(root, part) for part in expand_braces(getattr(config, name))]
    except ValueError as error:
        cure = "close every brace, as in '{part-a,part-b}'"
        raise ConfigError(Fault(f"data.{name}", f"{getattr(config, name)!r}: {error}", cure)) from None
    if len(set(urls)) < len(urls):
        raise ConfigError(Fault(f"data.{name}", f"{getattr(config, name)!r} names a split twice", "name each once"))
    for url in urls:
        check_url(url, key)
        indexes.append(read_index(url, read_options(config), key))
    first = indexes[0]
    for other in indexes[1:]:
        if other.class_names != first.class_names:
            raise ConfigError(_other_classes(first, other))
    if len(indexes) == 1:
        return first
    shards = tuple(replace(shard, name=index.url(shard)) for index in indexes for shard in index.shards)
    lengths = set().union(*(index.clustering for index in indexes))
    worst = {n: max(index.clustering.get(n, 1.0) for index in indexes) for n in lengths}
    return replace(first, shards=shards, clustering=worst)


def _other_classes(one: ShardIndex, other: ShardIndex) -> Fault:
    a, b = len(one.class_names), len(other.class_names)
    what = f"{counted(a, 'class')}, {other.root} has {b}" if a != b else f"other class names than {other.root}"
    return Fault("data.root", f"{one.root} has {what}", "write both from folders with the same classes")
