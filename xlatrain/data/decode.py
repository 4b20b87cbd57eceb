"""Encoded image to a uint8 array of the size the model sees."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
MAX_PIXELS = 64_000_000  # more is refused: no photograph of a training set, and 200 MB decoded


def decode_image(encoded: bytes, size: int, interpolation: str = "bicubic") -> np.ndarray:
    """Decode, convert to RGB, cut the largest centred square, resize: uint8 [size, size, 3].

    Raises ValueError or OSError for what is no image, is damaged, or has more than MAX_PIXELS.
    """
    with Image.open(io.BytesIO(encoded)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are more than the {MAX_PIXELS} allowed")
        image = image.convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((size, size), FILTERS[interpolation], box=box))


def shift_image(image: np.ndarray, reach: int, random: np.random.Generator) -> np.ndarray:
    """Translate [H, W, 3] by up to `reach` pixels each way; what comes in repeats the edge."""
    dy, dx = random.integers(0, 2 * reach + 1, 2)
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    return padded[dy : dy + image.shape[0], dx : dx + image.shape[1]]
