"""What is to be written: the images of each split, their labels and keys, and their order over the shards."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xlatrain.errors import ConfigError, Fault
from xlatrain.words import listed

TRAIN, VAL = "train", "val"
VAL_FOLDERS = ("val", "valid", "validation", "test")
_MOST_NAME, _MOST_FOLDER = 90, 150  # bytes that a ustar header holds, less a suffix


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file. name: class/.../file.JPEG. Its bytes are `size` at `offset` of `file`; changed: mtime in ns."""

    name: str
    file: str
    offset: int
    size: int
    changed: int = 0

    @property
    def class_name(self) -> str:
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class PictureSet:
    """The images of train or val, sorted by name. A label is a place in class_names."""

    name: str
    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class WriteOptions:
    """What the bytes of the shards depend on besides the images."""

    samples_per_shard: int = 1000
    seed: int = 0
    short_side: int | None = None
    quality: int = 90


@dataclass(frozen=True, slots=True)
class Item:
    """An image with the key and the label that it is stored under."""

    key: str
    label: int
    picture: Picture


def make_splits(
    train: Iterable[Picture],
    val: Iterable[Picture] | None,
    class_names: Iterable[str],
    fraction: float | None,
    seed: int,
    source: str,
) -> tuple[PictureSet, PictureSet]:
    """Train and val with the classes of train. Without val, `fraction` of each class of train becomes it."""
    classes, train = tuple(sorted(class_names)), sorted(train, key=lambda p: p.name)
    if not train:
        raise ConfigError(
            Fault(
                "SRC",
                f"{source} has no image of train in a class folder",
                "give CLASS/IMAGE below train/ and val/, or without these and with --split",
            )
        )
    if val is None and fraction is None:
        cure = "give the share of each class that becomes val, such as --split 0.1"
        raise ConfigError(Fault("--split", f"{source} has no val", cure))
    if val is not None and fraction is not None:
        raise ConfigError(Fault("--split", f"{source} has a val already", "leave out --split"))
    if val is None:
        train, val = split_by_class(train, fraction, seed)
    if not (val := sorted(val, key=lambda p: p.name)):
        raise ConfigError(Fault("SRC", f"{source} has no image of val", "leave the folder out and give --split"))
    _check_classes({p.class_name for p in val}, classes, source)
    return PictureSet(TRAIN, classes, tuple(train)), PictureSet(VAL, classes, tuple(val))


def _check_classes(of_val: Iterable[str], classes: Sequence[str], source: str) -> None:
    if unknown := sorted(set(of_val) - set(classes)):
        problem = f"val of {source} has classes that train has not: {listed(unknown, 10)}"
        raise ConfigError(Fault("SRC", problem, "rename or remove them; each class of val needs images in train"))


def split_by_class(pictures: Sequence[Picture], fraction: float, seed: int) -> tuple[list[Picture], list[Picture]]:
    """Draw `fraction` of each class; at least one image stays on either side where there are two."""
    by_class = defaultdict(list)
    for picture in pictures:
        by_class[picture.class_name].append(picture)
    random, train, val = np.random.Generator(np.random.PCG64(seed)), [], []
    for _, members in sorted(by_class.items()):
        count = min(max(1, round(len(members) * fraction)), len(members) - 1)
        drawn = set(random.permutation(len(members))[:count].tolist())
        for i, picture in enumerate(members):
            (val if i in drawn else train).append(picture)
    return train, val


def in_order(split: PictureSet, seed: int) -> list[Item]:
    """The images of a split as they follow each other over the shards."""
    labels = {name: i for i, name in enumerate(split.class_names)}
    keys = unique_keys(p.name for p in split.pictures)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(keys))
    return [Item(keys[i], labels[split.pictures[i].class_name], split.pictures[i]) for i in order.tolist()]


def unique_keys(names: Iterable[str]) -> list[str]:
    """The key of each name: without suffix, dots or spaces in its last part, short enough, and no key twice."""
    wanted = [_key(name) for name in names]
    reserved, taken, keys = set(wanted), set(), []
    for key in wanted:
        free, count = key, 0
        while free in taken:
            count += 1
            free = f"{key}-{count}"
            if free in reserved:
                free = key
        taken.add(free)
        keys.append(free)
    return keys


def _key(name: str) -> str:
    folder, slash, last = re.sub(r"[\x00-\x1f\x7f]", "_", name).rpartition("/")
    stem = re.sub(r"[.\s]", "_", last.rpartition(".")[0])
    return _shortened(folder, _MOST_FOLDER) + slash + _shortened(stem, _MOST_NAME - 8)


def _shortened(text: str, most: int) -> str:
    """The text, or its start and a checksum where it has too many bytes for the header of a tar."""
    encoded = text.encode("utf-8", "surrogateescape")
    if len(encoded) <= most:
        return text
    return encoded[: most - 17].decode("utf-8", "ignore").rstrip("/") + "_" + hashlib.sha256(encoded).hexdigest()[:16]


def fingerprint(options: WriteOptions, *facts: object) -> str:
    """What tells one plan from another, for a second run of the same command."""
    return hashlib.sha256(json.dumps([vars(options), *facts]).encode()).hexdigest()


def split_facts(split: PictureSet) -> list:
    """What a split of a folder consists of."""
    return [split.name, split.class_names, [(p.name, p.size, p.changed) for p in split.pictures]]


def renamed(picture: Picture, name: str) -> Picture:
    return replace(picture, name=name)
