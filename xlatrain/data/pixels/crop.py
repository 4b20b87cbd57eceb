"""Which part of an image is looked at: pure functions of its size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ASPECT = (3 / 4, 4 / 3)  # width over height
ATTEMPTS = 10
MIN_OBJECT_COVERED = 0.1  # the reference asks this share of the whole image of every crop


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class CentreCrop:
    """The centred square that the TPU code evaluates on: size / (size + padding) of the shorter side, where size is
    what the model sees. 32 at any size is the papers'; padding 0 takes the largest square."""

    size: int
    padding: int

    @property
    def share(self) -> float:
        """Of the shorter side."""
        return self.size / (self.size + self.padding)

    def __call__(self, height: int, width: int, random: np.random.Generator | None = None) -> Box:
        side = max(1, self.size * min(height, width) // (self.size + self.padding))
        return Box((height - side + 1) // 2, (width - side + 1) // 2, side, side)


def eval_crop(size: int, padding: int, ratio: float | None) -> CentreCrop:
    """The crop of an evaluation: by data.eval_padding, or where it is given by data.eval_ratio."""
    return CentreCrop(size, padding if ratio is None else round(size * (1 / ratio - 1)))


@dataclass(frozen=True)
class SquareCrop:
    """A square as large as that of an evaluation, anywhere in the image: a random crop after a resize of the shorter
    side, with neither scale nor aspect drawn."""

    centre: CentreCrop

    def __call__(self, height: int, width: int, random: np.random.Generator) -> Box:
        side = self.centre(height, width).height
        return Box(_place(height - side + 1, random), _place(width - side + 1, random), side, side)


@dataclass(frozen=True)
class RandomCrop:
    """A random part of min_area to 1 of the image, 3/4 to 4/3 as wide as high; after 10 vain attempts, or when all of
    the image was drawn, the centre crop.

    sampling "tf": as TensorFlow's sample_distorted_bounding_box does it for the TPU code: aspect uniform, height
    uniform between those of the smallest and the largest area, at least a tenth of the image. "torchvision": area
    uniform, logarithm of the aspect uniform, as RandomResizedCrop and timm draw.
    """

    fallback: CentreCrop
    min_area: float = 0.08
    sampling: str = "tf"

    def __call__(self, height: int, width: int, random: np.random.Generator) -> Box:
        tf = self.sampling == "tf"
        draw = draw_tf if tf else draw_torchvision
        for _ in range(ATTEMPTS):
            size = draw(height, width, self.min_area, random)
            if size and (not tf or size[0] * size[1] >= MIN_OBJECT_COVERED * height * width):
                break
        else:
            return self.fallback(height, width)
        if tf and size == (height, width):  # the TPU code takes this for a failure
            return self.fallback(height, width)
        # TensorFlow never draws the last place, torchvision does.
        top, left = (_place(whole - part + (not tf), random) for whole, part in ((height, size[0]), (width, size[1])))
        return Box(top, left, *size)


def _place(places: int, random: np.random.Generator) -> int:
    return int(random.integers(0, places)) if places > 0 else 0


def draw_tf(height: int, width: int, min_area: float, random: np.random.Generator) -> tuple[int, int] | None:
    """Height and width of one attempt, None when it fails."""
    aspect = random.uniform(*ASPECT)
    whole = height * width
    high = round(math.sqrt(whole / aspect))
    if round(high * aspect) > width:
        high = int((width + 0.5 - 1e-7) / aspect)
        high -= round(high * aspect) > width
    high = min(high, height)
    low = min(round(math.sqrt(min_area * whole / aspect)), high)
    h = int(random.integers(low, high + 1)) if low < high else low
    w = round(h * aspect)
    if h * w < min_area * whole:
        h += 1
        w = round(h * aspect)
    if h * w > whole:
        h -= 1
        w = round(h * aspect)
    good = min_area * whole <= h * w <= whole and 0 < w <= width and 0 < h <= height
    return (h, w) if good else None


def draw_torchvision(height: int, width: int, min_area: float, random: np.random.Generator) -> tuple[int, int] | None:
    """Height and width of one attempt, None when it fails."""
    area = height * width * random.uniform(min_area, 1.0)
    aspect = math.exp(random.uniform(*map(math.log, ASPECT)))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    return (h, w) if 0 < w <= width and 0 < h <= height else None
