"""Encoded image to uint8 pixels of the size the model sees, into memory that is there already.

JPEGs go through libjpeg-turbo (simplejpeg; nvimgcodec where the extra fast-decode is installed), and only as far as the
crop needs; everything else, and what those refuse, through PIL. The resize is torch's antialiased kernel for uint8.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator

import numpy as np
import simplejpeg
import torch
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT

from xlatrain.config.schema import ShardsConfig
from xlatrain.data.pixels.crop import Box

MAX_PIXELS = ShardsConfig.max_pixels  # more is refused: no photograph of a training set, and 200 MB decoded
_RESIZE = {
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.out,
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.out,
}
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # PIL knows more, some of which run other programs
Image.MAX_IMAGE_PIXELS = None  # our own limit comes before
_JPEG, _END_OF_JPEG = b"\xff\xd8", b"\xff\xd9"
_MCU = 16  # rows: the largest unit that baseline JPEG codes as one

ChooseBox = Callable[[int, int], Box]


class Decoder:
    """Decodes, crops and resizes. Holds scratch memory: one for each thread.

    fallbacks counts the images that only PIL could read. Raises ValueError or OSError for what is no image, is damaged
    or cut short, or has more than max_pixels.
    """

    def __init__(self, interpolation: str = "bicubic", fast: bool | None = None, max_pixels: int = MAX_PIXELS):
        """fast: decode by nvimgcodec; None = if it is installed."""
        self._resize, self._max_pixels = _RESIZE[interpolation], max_pixels
        self._region = open_region_decoder(fast)
        self._scratch = _odd_memory(1 << 20)
        self.name = "nvimgcodec" if self._region else "simplejpeg"
        self.fallbacks = 0

    def __call__(self, encoded: bytes, choose: ChooseBox, row: np.ndarray) -> None:
        """Write the part that `choose` picks, given height and width, to `row`: uint8 [S, S, 3], contiguous."""
        self.resize(self.crop(encoded, choose), row)

    def crop(self, encoded: bytes | np.ndarray, choose: ChooseBox) -> np.ndarray:
        """The chosen pixels as they are stored: uint8 [h, w, 3], valid until the next call. encoded: an image, or its
        pixels where it has been decoded."""
        if isinstance(encoded, np.ndarray):
            top, left, height, width = choose(*encoded.shape[:2])
            return encoded[top : top + height, left : left + width]
        box = None
        if encoded[:2] == _JPEG:
            try:
                height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
                if colours not in ("CMYK", "YCCK"):
                    self._check_size(height, width)
                    box = choose(height, width)
                    return self._jpeg(encoded, height, width, box)
            except _TooLargeError:
                raise
            except (ValueError, RuntimeError):  # PIL, which is more lenient, has the last word
                pass
        self.fallbacks += 1
        return self._pil(encoded, choose, box)

    def resize(self, pixels: np.ndarray, row: np.ndarray) -> None:
        """uint8 [h, w, 3] to [S, S, 3] with antialiasing, equal to PIL's resize within 2 levels."""
        size, (height, width) = row.shape[0], pixels.shape[:2]
        if (height, width) == (size, size):
            row[:] = pixels
            return
        source = torch.from_numpy(pixels)
        if height > size and 2 * width < height + size:  # the order of the two passes is PIL's
            between = torch.empty(size, width, 3, dtype=torch.uint8)
            self._resize(_nchw(source), [size, width], False, None, None, out=_nchw(between))
            source = between
        self._resize(_nchw(source), [size, size], False, None, None, out=_nchw(torch.from_numpy(row)))

    def _jpeg(self, encoded: bytes, height: int, width: int, box: Box) -> np.ndarray:
        whole = encoded[-16:].rstrip(b"\0")[-2:] == _END_OF_JPEG  # else it is cut short, which a crop might not show
        if self._region and whole:
            return self._region(encoded, box)
        below = box.top + box.height
        rows = -(-below // _MCU) * _MCU + _MCU  # one unit more: upsampling of colours looks ahead
        at = _frame_header(encoded) if rows < height and whole else None
        shorter = at is not None
        if shorter:
            encoded, height = bytearray(encoded), rows
            encoded[at : at + 2] = rows.to_bytes(2, "big")
        if self._scratch.size < height * width * 3:
            self._scratch = _odd_memory(2 * height * width * 3)
        # A shorter frame leaves coded data over, of which libjpeg warns; nothing else is forgiven that PIL would not.
        pixels = simplejpeg.decode_jpeg(encoded, "RGB", buffer=self._scratch, strict=not shorter)
        return pixels[box.top : below, box.left : box.left + box.width]

    def _pil(self, encoded: bytes, choose: ChooseBox, box: Box | None) -> np.ndarray:
        if not encoded:
            raise ValueError("it is empty")
        try:
            opened = Image.open(io.BytesIO(encoded), formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError(f"it is no image that PIL reads: it starts with {bytes(encoded[:8])!r}") from None
        with opened as image:
            self._check_size(image.height, image.width)
            _check_range(image)
            top, left, height, width = box or choose(image.height, image.width)
            part = image.crop((left, top, left + width, top + height))
            if part.mode.startswith("I"):
                part = _upper_eight(image, part)
            return np.array(part.convert("RGB"))

    def _check_size(self, height: int, width: int) -> None:
        if height * width > self._max_pixels:
            limit = f"the {self._max_pixels} allowed (data.max_pixels)"
            raise _TooLargeError(f"{width} x {height} pixels are more than {limit}")


def _check_range(image: Image.Image) -> None:
    """Raises ValueError for a TIFF of floats, signed or 32-bit samples: nothing in it says what is black and what is
    white, and PIL would cut all of it off at 0 and 255."""
    tags = getattr(image, "tag_v2", {})
    kind, bits = max(tags.get(SAMPLEFORMAT, (1,))), max(tags.get(BITSPERSAMPLE, (1,)))
    if kind in (2, 3) or bits > 16:
        what = {2: "signed integers", 3: "floats"}.get(kind, "integers")
        raise ValueError(f"a TIFF of {bits}-bit {what}, whose range is not known: convert it to 8 or 16 bits")


def _upper_eight(image: Image.Image, part: Image.Image) -> Image.Image:
    """The upper 8 bits of the 12 or 16 of gray PNGs and TIFFs, which PIL would cut off at 255."""
    tags = getattr(image, "tag_v2", {})
    gray = np.asarray(part).astype(np.int64) >> (max(tags.get(BITSPERSAMPLE, (16,))) - 8)
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:  # 0 is white; PIL inverts this itself only up to 8 bits
        gray = 255 - gray
    return Image.fromarray(gray.astype(np.uint8))


class _TooLargeError(ValueError):
    """An image refused for its size before it is decoded."""


def decode_image(encoded: bytes, size: int, choose: ChooseBox, interpolation: str = "bicubic") -> np.ndarray:
    """One image: uint8 [size, size, 3]. As Decoder."""
    row = np.empty((size, size, 3), np.uint8)
    Decoder(interpolation, fast=False)(encoded, choose, row)
    return row


def shift_image(image: np.ndarray, reach: int, random: np.random.Generator) -> np.ndarray:
    """Translate [H, W, 3] by up to `reach` pixels each way; what comes in repeats the edge."""
    dy, dx = random.integers(-reach, reach + 1, 2)
    rows, columns = ((np.arange(n) + d).clip(0, n - 1) for n, d in ((image.shape[0], dy), (image.shape[1], dx)))
    return image.take(rows, 0).take(columns, 1)


def open_region_decoder(fast: bool | None) -> Callable[[bytes, Box], np.ndarray] | None:
    """nvimgcodec's decoder of parts of JPEGs on one thread of the CPU; None where it is not installed or not wanted.
    Raises ImportError when it is wanted and not installed."""
    if fast is False:
        return None
    try:
        with _silence():  # it complains of every GPU library that it does not find
            from nvidia import nvimgcodec as nv

            decoder = nv.Decoder(
                device_id=nv.NVIMGCODEC_DEVICE_CPU_ONLY,
                max_num_cpu_threads=1,
                backends=[nv.Backend(nv.BackendKind.CPU_ONLY)],
                options=":fancy_upsampling=1",
            )
    except ImportError:
        if fast:
            raise
        return None
    params = nv.DecodeParams(apply_exif_orientation=False, sample_format=nv.SampleFormat.I_RGB)
    reused = None

    def decode(encoded: bytes, box: Box) -> np.ndarray:
        nonlocal reused
        region = nv.Region(box.top, box.left, box.top + box.height, box.left + box.width)
        image = decoder.decode(nv.CodeStream(encoded).get_sub_code_stream(region=region), params=params, image=reused)
        if image is None:
            raise ValueError("nvimgcodec cannot decode it")
        reused = image
        return np.asarray(image)

    return decode


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Standard error of the whole process, libraries in C too, goes nowhere."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _frame_header(jpeg: bytes) -> int | None:
    """Where the height of a baseline JPEG stands, two bytes; None for other kinds (progressive ones code rows last)."""
    at = 2
    while at + 9 < len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker in (0xC0, 0xC1):
            return at + 5
        if marker == 0xDA or (0xC2 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return None
        at += 1 if marker == 0xFF else 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return None


def _nchw(pixels: torch.Tensor) -> torch.Tensor:
    """[H, W, C] as [1, C, H, W] without a copy, which the kernel knows as channels-last."""
    return pixels.permute(2, 0, 1)[None]


def _odd_memory(size: int) -> np.ndarray:
    """Scratch memory that lies at 16 mod 32: on 32-byte boundaries libjpeg-turbo writes past the cache, and the resize
    that follows pays for it."""
    memory = np.empty(size + 32, np.uint8)
    return memory[(16 - memory.ctypes.data) % 32 :][:size]
