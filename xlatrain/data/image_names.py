"""Which names are those of images."""

from __future__ import annotations

SUFFIX_TYPES = {
    "jpg": "jpg", "jpeg": "jpg", "png": "png", "webp": "webp", "bmp": "bmp", "gif": "gif", "tif": "tif", "tiff": "tif"
}  # fmt: skip


def is_image_name(name: str) -> bool:
    """Whether a name has an image's suffix; hidden files (macOS's ._IMG.jpg) are none."""
    last = name.rpartition("/")[2]
    return not last.startswith(".") and suffix_of(last) in SUFFIX_TYPES


def suffix_of(name: str) -> str:
    return name.rpartition(".")[2].lower()
