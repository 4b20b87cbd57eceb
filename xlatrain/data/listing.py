"""The images that a command names: files, folders, shards and addresses, in the order given."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from xlatrain.data.image_names import SUFFIX_TYPES, is_image_name
from xlatrain.data.listed import ImageFiles, Part, ShardImages
from xlatrain.data.shard_format import MARK_EVERY, Shard, group_members, read_index
from xlatrain.data.storage.access import access_cure
from xlatrain.data.storage.retry import ReadOptions
from xlatrain.data.storage.streams import check_url, expand_braces, list_files, open_stream
from xlatrain.data.storage.tar import TarError, read_members
from xlatrain.errors import ConfigError, DataError, Fault, in_a_line

KEY = "PATH"
_SHARD, _INDEX = ".tar", ".json"
_CURE = "name images, folders of them, shards (.tar), or gs://, s3:// and https:// addresses of such"


def find_images(paths: Sequence[str], options: ReadOptions, others: Counter[str]) -> tuple[Part, ...]:
    """What these paths come to. Shards are read through for the names in them. others: counts what else lies in folders
    here, by suffix. Raises ConfigError with a fault for each that is not there, holds no image, or is a shard that is
    damaged."""
    found: list[Part] = []
    faults: list[Fault] = []
    for path in paths:
        try:
            here = list(_parts(_names(path, options, others), options))
            if not any(map(len, here)):
                raise ConfigError(Fault(KEY, f"{path} holds no images", _CURE))
            found += here
        except ConfigError as error:
            faults += error.faults
    if not paths:
        faults.append(Fault(KEY, "no image is named", _CURE))
    if faults:
        raise ConfigError(*faults)
    return tuple(_joined(found))


def is_address(text: str) -> bool:
    """Whether a word names something elsewhere."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.replace("+", "").isalnum()


def _names(path: str, options: ReadOptions, others: Counter[str]) -> Iterator[str]:
    """Files, of images and of shards, that a path stands for."""
    if is_address(path) and not path.startswith("file://"):
        yield from _remote(path, options)
        return
    here = path.removeprefix("file://")
    if os.path.isdir(here):
        above = {_identity(folder) for folder in Path(here).resolve().parents}
        yield from _walk(here, above, others)
    elif os.path.exists(here):
        yield from _of_index(here, options) if here.endswith(_INDEX) else [here]
    elif "{" in here:
        for name in _expanded(here):
            yield from _names(name, options, others)
    else:
        raise ConfigError(Fault(KEY, f"there is no file or folder {here}", _CURE))


def _walk(folder: str, above: set[tuple[int, int]], others: Counter[str]) -> Iterator[str]:
    """Images and shards of a folder and those in it, by name. Hidden ones are left out, and links to a folder that they
    lie in are not followed."""
    if (identity := _identity(folder)) in above:
        return
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        problem = f"{folder} cannot be read: {error.strerror}"
        raise ConfigError(Fault(KEY, problem, f"ls -l {Path(folder).parent}")) from None
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            if not name.startswith("."):
                yield from _walk(path, above | {identity}, others)
        elif is_image_name(name) or (name.endswith(_SHARD) and not name.startswith(".")):
            yield path
        elif not name.startswith(".") and name != "index.json":  # of the shards beside it
            others[os.path.splitext(name)[1].lower() or "without a suffix"] += 1


def _identity(folder: str | Path) -> tuple[int, int]:
    """One folder, whatever the way to it."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _remote(url: str, options: ReadOptions) -> Iterator[str]:
    """What lies at an address: an image, a shard, what an index lists, or the files of a folder."""
    check_url(url, KEY)
    bare = url.partition("?")[0] if url.startswith(("http://", "https://")) else url
    if "{" in url:
        yield from (name for each in _expanded(url) for name in _remote(each, options))
    elif bare.endswith(_SHARD) or is_image_name(bare):
        yield url
    else:
        try:
            yield from _of_index(url, options)
        except ConfigError:
            if url.startswith(("http://", "https://")) or bare.endswith(_INDEX):  # of which nobody can list a folder
                raise
            yield from _listed(url, options)


def _of_index(url: str, options: ReadOptions) -> list[str]:
    index = read_index(url, options, KEY)
    return [index.url(shard) for shard in index.shards]


def _listed(url: str, options: ReadOptions) -> list[str]:
    suffixes = (_SHARD, *(f".{suffix}" for suffix in SUFFIX_TYPES))
    try:
        return list_files(url, suffixes, options)
    except Exception as error:  # of any store's library
        raise ConfigError(Fault(KEY, f"{url} cannot be listed: {in_a_line(error)}", access_cure(url, error))) from None


def _expanded(pattern: str) -> list[str]:
    try:
        return expand_braces(pattern)
    except ValueError as error:
        cure = "close every brace, as in 'shard-{000..007}.tar'"
        raise ConfigError(Fault(KEY, f"{pattern!r}: {error}", cure)) from None


def _parts(names: Iterable[str], options: ReadOptions) -> Iterator[Part]:
    for name in names:
        is_shard = name.partition("?")[0].endswith(_SHARD) if is_address(name) else name.endswith(_SHARD)
        yield _list_shard(name, options) if is_shard else ImageFiles((name,))


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    """The same, files that follow each other in one part."""
    urls: list[str] = []
    for part in parts:
        if isinstance(part, ImageFiles):
            urls += part.urls
            continue
        if urls:
            yield ImageFiles(tuple(urls))
            urls = []
        yield part
    if urls:
        yield ImageFiles(tuple(urls))


def _list_shard(url: str, options: ReadOptions) -> ShardImages:
    """Read a shard through for its keys and marks. Raises ConfigError."""
    keys: list[str] = []
    marks: list[int] = []
    try:
        with open_stream(url, options) as stream:
            for key, members in group_members(read_members(stream)):
                if len(keys) % MARK_EVERY == 0:
                    marks.append(members[0][1].offset)
                keys.append(key)
    except (TarError, DataError, OSError) as error:
        after = f"after sample {keys[-1]!r}" if keys else "at its beginning"
        problem = f"shard {url}, {after}: the tar cannot be read on: {in_a_line(error)}"
        raise ConfigError(Fault(KEY, problem, "fetch or write it again, or leave it out")) from None
    return ShardImages(url, Shard(url, len(keys), marks=tuple(marks)), tuple(keys))
