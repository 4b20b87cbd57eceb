"""One image from its file to what a shard stores: seen to be whole, named by its true type, made smaller if asked."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from xlatrain.data.image_names import SUFFIX_TYPES, suffix_of
from xlatrain.data.make_shards.pictures import Picture, WriteOptions
from xlatrain.data.pixels import decode
from xlatrain.data.pixels.crop import Box
from xlatrain.data.storage.streams import check_regular

WRONG_SUFFIX, CMYK, ROTATED, GRAY = "wrong suffix", "CMYK", "EXIF orientation", "gray"
CONVERTED, REENCODED, DAMAGED = "converted to png", "re-encoded", "damaged inside (only PIL reads them)"
NOTES = (WRONG_SUFFIX, CMYK, ROTATED, GRAY, CONVERTED, REENCODED, DAMAGED)
LARGEST = 1 << 30  # bytes, as of a member of a tar
_ORIENTATION = 0x0112
_STARTS = {
    b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png", b"GIF8": "gif", b"BM": "bmp", b"II*\0": "tif", b"MM\0*": "tif"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """An image as a shard stores it, and what was odd about it."""

    kind: str
    data: bytes
    notes: tuple[str, ...]


def read_picture(picture: Picture) -> bytes:
    """Raises OSError, also when the file has become shorter or is none that can be read, such as a pipe."""
    check_regular(picture.file)
    if picture.size > LARGEST:
        raise OSError(f"{picture.size:,} bytes are no image: {LARGEST:,} are the most that is read")
    with open(picture.file, "rb") as file:
        file.seek(picture.offset)
        data = file.read(picture.size)
    if len(data) < picture.size:
        raise OSError("the file has become shorter")
    return data


def convert(data: bytes, name: str, options: WriteOptions) -> Stored:
    """Raises whatever the decoders raise for an image that training could not decode."""
    kind = true_type(data)
    forgiven = _decoder(decode.MAX_PIXELS).fallbacks
    pixels = decode_whole(data)
    notes = list(_oddities(data))
    if kind == "jpg" and CMYK not in notes and _decoder(decode.MAX_PIXELS).fallbacks > forgiven:
        notes.append(DAMAGED)
    if kind != SUFFIX_TYPES[suffix_of(name)]:
        notes.insert(0, WRONG_SUFFIX)
    short = min(pixels.shape[:2])
    if options.short_side is not None and short > options.short_side:
        height, width = (max(1, round(n * options.short_side / short)) for n in pixels.shape[:2])
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        return Stored("jpg", _encoded(image, "JPEG", quality=options.quality), (*notes, REENCODED))
    if kind in ("bmp", "gif", "tif"):
        return Stored("png", _encoded(Image.fromarray(pixels), "PNG"), (*notes, CONVERTED))
    return Stored(kind, data, tuple(notes))


def true_type(data: bytes) -> str:
    """The type that the first bytes tell. Raises ValueError."""
    if not data:
        raise ValueError("the file is empty")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    for start, kind in _STARTS.items():
        if data.startswith(start):
            return kind
    raise ValueError(f"no image: it starts with {data[:8]!r}")


def decode_whole(data: bytes) -> np.ndarray:
    """All pixels as training decodes them: uint8 [h, w, 3], valid until the next call."""
    return _decoder(decode.MAX_PIXELS).crop(data, lambda height, width: Box(0, 0, height, width))


@functools.cache
def _decoder(max_pixels: int) -> decode.Decoder:
    return decode.Decoder(fast=False, max_pixels=max_pixels)


def _oddities(data: bytes) -> Iterator[str]:
    """From the header alone. One that only PIL cannot read is no reason to refuse an image."""
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as image:
        if image.mode == "CMYK":
            yield CMYK
        if image.mode[0] in "1LIF":
            yield GRAY
        if image.getexif().get(_ORIENTATION, 1) not in (0, 1):
            yield ROTATED


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
