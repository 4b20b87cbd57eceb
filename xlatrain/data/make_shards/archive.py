"""Finds the images inside tar archives, which stay where they are: workers read them by their offsets."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xlatrain.console import say
from xlatrain.data.image_names import is_image_name
from xlatrain.data.make_shards.pictures import Picture
from xlatrain.data.make_shards.tally import Tally
from xlatrain.data.storage.retry import DEFAULTS
from xlatrain.data.storage.streams import Stream, open_stream
from xlatrain.data.storage.tar import BLOCK, Member, TarError, read_members
from xlatrain.errors import ConfigError, Fault

_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


@contextlib.contextmanager
def plain_archives(sources: Sequence[Path], scratch: Path) -> Iterator[list[Path]]:
    """The archives; a decompressed copy in `scratch` of each compressed one, which is removed at the end."""
    made, plain = [], []
    try:
        for i, source in enumerate(sources):
            opener = _opener(source)
            if opener is not None:
                made.append(scratch / f".archive-{i}.tar.part")
                say(f"decompressing {source} to {scratch}")
                _decompress(source, opener, made[-1])
            plain.append(source if opener is None else made[-1])
        yield plain
    finally:
        for copy in made:
            copy.unlink(missing_ok=True)


def _opener(source: Path) -> Callable[..., BinaryIO] | None:
    with open(source, "rb") as file:
        start = file.read(6)
    return next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), None)


def _decompress(source: Path, opener: Callable[..., BinaryIO], target: Path) -> None:
    with open(target, "wb") as out:
        try:
            with opener(source, "rb") as file:
                while piece := file.read(1 << 20):
                    out.write(piece)
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            if getattr(error, "errno", None) is not None:  # a full disk is no fault of the archive
                raise
            raise ConfigError(Fault("SRC", f"{source} cannot be decompressed: {error}", "fetch it again")) from None


@dataclass(frozen=True)
class Listed:
    """What an archive holds: images, how many other files, and the hidden folders, whose files are left out."""

    pictures: list[Picture]
    ignored: int
    hidden: set[str]


def list_archive(archive: Path, source: Path) -> Listed:
    """The files of an archive and of the archives in it, one per class. Of files of one name the last counts, as in
    tar. source: what the user calls it."""
    pictures, ignored, hidden, path = {}, 0, set(), str(archive.absolute())
    try:
        total = archive.stat().st_size
        with open_stream(path, DEFAULTS) as stream, Tally(f"listing {source}", total, "byte") as tally:
            done = 0
            for name, offset, size in _files(stream):
                tally.advance(stream.position - done)
                done = stream.position
                if folder := _hidden_folder(name):
                    hidden.add(folder)
                elif is_image_name(name):
                    pictures[name] = Picture(name, path, offset, size)
                else:
                    ignored += 1
    except TarError as error:
        raise ConfigError(Fault("SRC", f"{source}: {error}", "fetch or write the archive again")) from None
    return Listed(list(pictures.values()), ignored, hidden)


def _hidden_folder(name: str) -> str:
    """The path of the first hidden folder that a file lies in, or nothing."""
    parts = name.split("/")[:-1]
    return next(("/".join(parts[: i + 1]) for i, part in enumerate(parts) if part.startswith(".")), "")


def _files(stream: Stream) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each file; those of n01440764.tar inside are called n01440764/..."""
    for member in read_members(stream):
        start = stream.position - _padded(member)
        if not member.name.endswith(".tar"):
            yield member.name, start, len(member.data)
            continue
        inner = io.BytesIO(member.data)
        for file in read_members(inner):
            name = f"{member.name.removesuffix('.tar')}/{file.name}"
            yield name, start + inner.tell() - _padded(file), len(file.data)


def _padded(member: Member) -> int:
    return -(-len(member.data) // BLOCK) * BLOCK
