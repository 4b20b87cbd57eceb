"""Small pictures of images of a validation set, as the model sees them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from xlatrain.data.order import eval_numbers, plain_line
from xlatrain.data.phase import Place
from xlatrain.data.sources import OrderedSplit
from xlatrain.engine.details.tally import Mistake
from xlatrain.preflight.checked import CheckedEvaluation

_LARGEST, _AS_IT_IS = 160, 64  # pixels a side: of a thumbnail, and up to which nothing is lost by compression


@dataclass(frozen=True)
class Thumbnail:
    """address: a data: URL. name: of the image in its data, "" where it has none."""

    address: str
    name: str


def find_thumbnails(evaluation: CheckedEvaluation, mistakes: Sequence[Mistake]) -> list[Thumbnail]:
    """One for each mistake, read again by this process."""
    split, size = evaluation.dataset.val, evaluation.config.data.image_size
    numbers = [mistake.number for mistake in mistakes]
    if isinstance(split, OrderedSplit):
        return [_read(split, number, size) for number in numbers]
    wanted = set(numbers)
    found = {}
    rows = eval_numbers(split.samples, evaluation.batch, 0, 1, 1)
    for batch, places in zip(split.eval_batches(Place(0, 1), evaluation.batch), rows, strict=False):
        for row in np.flatnonzero(np.isin(places, list(wanted))):
            found[int(places[row])] = Thumbnail(as_address(batch["images"][row].numpy()), f"image {places[row]}")
        if len(found) == len(wanted):
            break
    return [found[number] for number in numbers]


def _read(split: OrderedSplit, number: int, size: int) -> Thumbnail:
    (sample,) = split.read(plain_line(split.sizes), number, number + 1)
    row = np.empty((size, size, 3), np.uint8)
    split.preparer().eval(sample, row)
    name = sample.key if "/" in sample.key else f"{sample.shard.rpartition('/')[2]}/{sample.key}"
    return Thumbnail(as_address(row), name)


def as_address(pixels: np.ndarray) -> str:
    """Pixels uint8 [size, size, 3] as the data: URL of a thumbnail."""
    image = Image.fromarray(pixels)
    lossless = image.width <= _AS_IT_IS
    image.thumbnail((_LARGEST, _LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if lossless else "JPEG", quality=80, optimize=True)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
