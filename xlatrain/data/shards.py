"""WebDataset tar shards with an index: written atomically, read sequentially.

A data set is a folder with train/ and val/, each of shard-000000.tar ... and an index.json:
{"shards": [{"name", "samples", "bytes"}], "class_names": [...]}. A sample is an image (png, jpg, jpeg, webp) and its
label (cls, decimal text) under one key.
"""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import webdataset

from xlatrain.errors import ConfigError, Fault, bad_sample

IMAGE_TYPES = ("png", "jpg", "jpeg", "webp")


@dataclass(frozen=True)
class Sample:
    """An encoded image and its label. `number` counts samples over the shards of a split in index order."""

    shard: str
    key: str
    number: int
    image: bytes
    label: int


@dataclass(frozen=True)
class Shard:
    name: str
    samples: int
    bytes: int


@dataclass(frozen=True)
class ShardIndex:
    """What a split holds. root: its folder."""

    root: Path
    shards: tuple[Shard, ...]
    class_names: tuple[str, ...]

    @property
    def samples(self) -> int:
        return sum(s.samples for s in self.shards)


def read_index(root: Path) -> ShardIndex:
    """Read index.json of a split's folder. Raises ConfigError when the folder or a shard is not there."""
    path = root / "index.json"
    try:
        content = json.loads(path.read_text())
        shards = tuple(_shard(entry) for entry in content["shards"])
        class_names = tuple(str(name) for name in content["class_names"])
        if not class_names:
            raise ValueError("class_names is empty")
    except FileNotFoundError:
        raise ConfigError(
            Fault(
                "data.root",
                f"there is no {path}",
                "name a folder that has train/index.json and val/index.json beside their tar shards",
            )
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(Fault("data.root", f"{path} is not an index of shards ({error})", "write it again")) from None
    if missing := [s.name for s in shards if not (root / s.name).exists()]:
        raise ConfigError(
            Fault(
                "data.root",
                f"{root} lacks shards its index names: {', '.join(missing[:5])}",
                "copy or write the data set again",
            )
        )
    return ShardIndex(root, shards, class_names)


def _shard(entry: dict) -> Shard:
    shard = Shard(str(entry["name"]), entry["samples"], entry["bytes"])
    if not (isinstance(shard.samples, int) and shard.samples >= 0):
        raise ValueError(f"{shard.name} has {shard.samples!r} samples")
    return shard


def write_shards(
    root: Path,
    samples: Iterable[tuple[str, str, bytes, int]],
    class_names: Iterable[str],
    samples_per_shard: int = 1000,
) -> ShardIndex:
    """Write (key, image type, image bytes, label) to shards under `root`, deterministically, the index last."""
    root.mkdir(parents=True, exist_ok=True)
    shards: list[Shard] = []
    pending = iter(samples)
    first = next(pending, None)
    while first is not None:
        name = f"shard-{len(shards):06d}.tar"
        count = 0
        with webdataset.TarWriter(str(root / name), mtime=0) as writer:
            while first is not None and count < samples_per_shard:
                key, kind, image, label = first
                writer.write({"__key__": key, kind: image, "cls": str(label).encode()})
                count += 1
                first = next(pending, None)
        shards.append(Shard(name, count, (root / name).stat().st_size))
    index = ShardIndex(root, tuple(shards), tuple(class_names))
    draft = root / "index.json.part"
    draft.write_text(json.dumps({"shards": [asdict(s) for s in shards], "class_names": list(class_names)}, indent=1))
    draft.replace(root / "index.json")
    return index


def read_shard(root: Path, shard: Shard, first_number: int) -> Iterator[Sample]:
    """The samples of a shard in file order. Raises DataError for a truncated tar or an incomplete sample, and when the
    shard does not hold as many samples as its index says: an epoch is never silently shorter."""
    path = str(root / shard.name)
    count, key, image, label = 0, None, None, None
    try:
        with contextlib.closing(tarfile.open(path, "r|")) as archive:
            for member in archive:
                if not member.isfile():
                    continue
                stem, _, kind = member.name.partition(".")
                if stem != key:
                    if key is not None:
                        yield _sample(path, key, first_number + count, image, label)
                        count += 1
                    if count == shard.samples:
                        raise bad_sample(path, stem, f"the shard goes on after the {count} samples of its index")
                    key, image, label = stem, None, None
                content = archive.extractfile(member).read()
                if kind.lower() in IMAGE_TYPES:
                    image = content
                elif kind == "cls":
                    label = content
            if key is not None:
                yield _sample(path, key, first_number + count, image, label)
                count += 1
    except (tarfile.TarError, OSError, EOFError) as error:
        raise bad_sample(path, key or "(the first)", f"the tar cannot be read on: {error}") from error
    if count != shard.samples:
        raise bad_sample(path, key or "(none)", f"the shard ends after {count} samples; its index says {shard.samples}")


def _sample(path: str, key: str, number: int, image: bytes | None, label: bytes | None) -> Sample:
    if image is None:
        raise bad_sample(path, key, f"has no image ({', '.join(IMAGE_TYPES)}), or the tar is cut short here")
    try:
        return Sample(path, key, number, image, int(label or b""))
    except ValueError:
        raise bad_sample(path, key, f"has no label (cls): {label!r}") from None
