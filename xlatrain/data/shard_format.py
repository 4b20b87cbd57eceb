"""WebDataset tar shards and their index.

A split of a data set is a folder, local or remote, of tar shards and an index.json: {"class_names": [...], "shards":
[{"name", "samples", "bytes", "sha256", "marks"}], "clustering": {...}}. A sample is an image (jpg, jpeg, png, webp)
and its label (cls, decimal text) under one key. marks: where samples 0, 64, 128 ... begin, in bytes, so that reading
can start anywhere. clustering: how far classes lie together in shards of others, see clustering.py; ours are shuffled.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlatrain.credentials import masked
from xlatrain.data.storage.access import access_cure, missing_bucket
from xlatrain.data.storage.hashed import Hashed
from xlatrain.data.storage.retry import DEFAULTS, ReadOptions
from xlatrain.data.storage.streams import join_url, open_stream, read_all
from xlatrain.data.storage.tar import Member, TarError, read_members
from xlatrain.errors import ConfigError, DataError, Fault, bad_sample
from xlatrain.files import write_json
from xlatrain.words import counted, listed

INDEX = "index.json"
IMAGE_TYPES = ("jpg", "jpeg", "png", "webp")
MARK_EVERY = 64
_MOST_FILES, _MOST_BYTES = 100, 2 << 30  # of a sample


@dataclass(frozen=True, slots=True)
class Sample:
    """An encoded image, or its pixels uint8 [h, w, 3], and its label. `number` counts samples over the shards of a
    split in index order."""

    shard: str
    key: str
    number: int
    image: bytes | np.ndarray
    label: int


Members = list[tuple[str, Member]]  # the files of a sample by their types
ToSample = Callable[[str, str, int, Members], Sample]


@dataclass(frozen=True)
class Shard:
    """What the index says of a shard. bytes, sha256 and marks may be missing in an index that others wrote."""

    name: str
    samples: int
    bytes: int | None = None
    sha256: str | None = None
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class ShardIndex:
    """What a split holds. root: its folder or URL. clustering: by samples of a stretch; empty where it is not known."""

    root: str
    shards: tuple[Shard, ...]
    class_names: tuple[str, ...]
    clustering: Mapping[int, float] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        return sum(s.samples for s in self.shards)

    def url(self, shard: Shard) -> str:
        return join_url(self.root, shard.name)


def read_index(root: str | Path, options: ReadOptions = DEFAULTS, key: str = "data.root") -> ShardIndex:
    """Read index.json of a split's folder or URL, or the .json file named. Raises ConfigError when it is not there, is
    none, or a local shard is missing or of another size than it says."""
    url = str(root)
    path = url if url.endswith(".json") else join_url(url, INDEX)
    try:
        # A few attempts only: somebody waits for the command to start.
        content = json.loads(read_all(path, replace(options, retries=min(options.retries, 3))))
        shards = tuple(_shard(entry, "://" in path) for entry in content["shards"])
        class_names = tuple(str(name) for name in content["class_names"])
        clustering = {int(length): float(chi2) for length, chi2 in content.get("clustering", {}).items()}
        if not class_names:
            raise ValueError("class_names is empty")
        if twice := [n for n, times in Counter(s.name for s in shards).items() if times > 1]:
            raise ValueError(f"{twice[0]} is in it twice")
    except (FileNotFoundError, NotADirectoryError):
        if bucket := missing_bucket(path, key):
            raise ConfigError(bucket) from None
        cure = "name what has train/index.json and val/index.json beside tar shards, or write them: xlatrain shards"
        raise ConfigError(Fault(key, f"there is no {path}", cure)) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        cure = "write it again: xlatrain shards index"
        raise ConfigError(Fault(key, f"{path} is not an index of shards ({error})", cure)) from None
    except (DataError, OSError) as error:
        cure = masked(access_cure(path, error)) if "://" in path else "see that it can be reached"
        raise ConfigError(Fault(key, masked(f"{path} cannot be read: {error}"), cure)) from None
    index = ShardIndex(path.rpartition("/")[0] or ".", shards, class_names, clustering)
    if faults := _local_faults(index, key):
        raise ConfigError(*faults)
    return index


def _local_faults(index: ShardIndex, key: str) -> list[Fault]:
    """Shards that are not there, or not as long as the index says. Remote ones are seen when they are read."""
    local = [(s, index.url(s)) for s in index.shards if "://" not in index.url(s)]
    missing = [s.name for s, path in local if not os.path.exists(path)]
    other = [s.name for s, path in local if s.bytes and os.path.exists(path) and os.path.getsize(path) != s.bytes]
    faults = []
    for names, what in ((missing, "lacks"), (other, "holds, with another length than its index says,")):
        if names:
            faults.append(Fault(key, f"{index.root} {what} {listed(names, 5)}", "copy or write the data set again"))
    return faults


def _shard(entry: dict, remote: bool) -> Shard:
    """A shard of an index. remote: where that comes from. Raises ValueError for a name that leads out of its folder:
    whole addresses are allowed, `--out` writes them; but none of this machine in an index of another."""
    name = str(entry["name"])
    here = "://" not in name or name.startswith("file:")
    if not name.isprintable() or ".." in name.split("/") or (remote and here and name.startswith(("/", "file:"))):
        raise ValueError(f"{name!r} leads out of its folder")
    shard = Shard(
        name, entry["samples"], entry.get("bytes"), entry.get("sha256"), tuple(entry.get("marks", ()))
    )
    counts = [shard.samples, *shard.marks, *([] if shard.bytes is None else [shard.bytes])]
    if not all(isinstance(n, int) and n >= 0 for n in counts):
        raise ValueError(f"{shard.name} has samples, bytes or marks that are no counts")
    if shard.marks and len(shard.marks) != -(-shard.samples // MARK_EVERY):
        raise ValueError(f"{shard.name} has {counted(len(shard.marks), 'mark')} for {counted(shard.samples, 'sample')}")
    return shard


def write_index(
    root: Path, shards: Iterable[Shard], class_names: Iterable[str], name: str = INDEX, **more: Any
) -> ShardIndex:
    """Write an index, all at once. more: what else it is to hold, for who wrote it."""
    index = ShardIndex(str(root), tuple(shards), tuple(class_names))
    write_json(root / name, {"class_names": index.class_names, "shards": [asdict(s) for s in index.shards], **more})
    return index


def write_shard(path: Path, samples: Iterable[tuple[str, str, bytes, int]]) -> Shard:
    """Write (key, image type, image bytes, label) to one tar, the same bytes each time, all at once."""
    import webdataset  # and with it torch, which reading does without

    draft, marks, count = path.with_name(path.name + ".part"), [], 0
    with open(draft, "wb") as file:
        hashed = Hashed(file)
        with webdataset.TarWriter(hashed, mtime=0) as writer:
            for key, kind, image, label in samples:
                if count % MARK_EVERY == 0:
                    marks.append(writer.tarstream.offset)
                writer.write({"__key__": key, kind: image, "cls": str(label).encode()})
                count += 1
    draft.replace(path)
    return Shard(path.name, count, hashed.size, hashed.sha256, tuple(marks))


def write_shards(
    root: Path,
    samples: Iterable[tuple[str, str, bytes, int]],
    class_names: Iterable[str],
    samples_per_shard: int = 1000,
) -> ShardIndex:
    """Write (key, image type, image bytes, label) to shards under `root`, in order, the index last."""
    root.mkdir(parents=True, exist_ok=True)
    shards, group = [], []
    for sample in samples:
        group.append(sample)
        if len(group) == samples_per_shard:
            shards.append(write_shard(root / f"shard-{len(shards):06d}.tar", group))
            group = []
    if group:
        shards.append(write_shard(root / f"shard-{len(shards):06d}.tar", group))
    return write_index(root, shards, class_names)


def read_shard(
    index: ShardIndex,
    shard: Shard,
    first_number: int = 0,
    first: int = 0,
    last: int | None = None,
    options: ReadOptions = DEFAULTS,
    to_sample: ToSample | None = None,
) -> Iterator[Sample]:
    """Samples first <= i < last of a shard, in file order. first_number: the number of its sample 0. to_sample: makes
    one of url, key, number and members, where it need not have a label.

    Raises DataError for a tar that is damaged or cut short, a sample without image or label, and, when reading reaches
    its end, for a shard that does not hold as many samples as its index says: an epoch is never silently shorter.
    """
    url, last = index.url(shard), shard.samples if last is None else last
    mark = min(first // MARK_EVERY, len(shard.marks) - 1) if shard.marks else 0
    count, start = (mark * MARK_EVERY, shard.marks[mark]) if shard.marks else (0, 0)
    key = None
    try:
        with open_stream(url, options, start, shard.bytes, shard.sha256) as stream:
            for key, members in group_members(read_members(stream, start)):
                if count == shard.samples:
                    raise bad_sample(url, key, f"the shard goes on after the {counted(count, 'sample')} of its index")
                if count >= first:
                    yield (to_sample or _sample)(url, key, first_number + count, members)
                count += 1
                if count == last < shard.samples:
                    return
    except FileNotFoundError:
        raise DataError(f"the shard {url} is no longer there") from None
    except (TarError, OSError) as error:
        where = "at its beginning" if key is None else f"after sample {key!r}"
        raise DataError(f"shard {url}, {where}: the tar cannot be read on: {error}") from error
    if count != shard.samples:
        raise DataError(f"shard {url}: the shard ends after {counted(count, 'sample')}; its index says {shard.samples}")


def group_members(members: Iterable[Member]) -> Iterator[tuple[str, Members]]:
    """Members that share a key, with their types: dir/name.jpg is `jpg` of the key dir/name. Hidden files are left.
    Raises TarError for more of one key than a sample can be."""
    key, group, size = None, [], 0
    for member in members:
        folder, slash, name = member.name.rpartition("/")
        stem, _, kind = name.partition(".")
        if not stem:  # .DS_Store and the like
            continue
        stem = folder + slash + stem
        if stem != key:
            if key is not None:
                yield key, group
            key, group = stem, []
        group.append((kind.lower(), member))
        size = len(member.data) if len(group) == 1 else size + len(member.data)
        if len(group) > _MOST_FILES or size > _MOST_BYTES:  # they are held together
            raise TarError(f"{key!r} has {counted(len(group), 'file')} of {size:,} bytes, more than a sample may")
    if key is not None:
        yield key, group


def _sample(url: str, key: str, number: int, members: Members) -> Sample:
    if faults := sample_faults(members):
        raise bad_sample(url, key, "; ".join(faults))
    kinds = dict(members)
    image = next(kinds[kind].data for kind in IMAGE_TYPES if kind in kinds)
    return Sample(url, key, number, image, parse_label(kinds["cls"].data))


def sample_faults(members: Iterable[tuple[str, Member]]) -> list[str]:
    """What is wrong with a sample, before its image is decoded: in the same words wherever it is read."""
    kinds = [kind for kind, _ in members]
    found = image_faults(kinds)
    if (labels := kinds.count("cls")) != 1:
        found.append(f"has {labels or 'no'} label{'s' * (labels > 1)} (cls)")
    elif parse_label(text := dict(members)["cls"].data) is None:
        found.append(f"its label (cls) is no class number: {text[:20]!r}")
    return found


def image_faults(kinds: Sequence[str]) -> list[str]:
    """That a sample, which has files of these types, has no image, or several."""
    if (images := sum(kind in IMAGE_TYPES for kind in kinds)) == 1:
        return []
    return [f"has {images or 'no'} image{'s' * (images > 1)} ({', '.join(IMAGE_TYPES)})"]


def parse_label(text: bytes) -> int | None:
    """Decimal text of up to 9 digits; None for anything else."""
    text = text.strip()
    return int(text) if text.isdigit() and len(text.lstrip(b"0")) < 10 else None


def label_outside(label: int, classes: int) -> str:
    """The words for a label that no class has."""
    return f"label {label} is outside 0..{classes - 1}"
