"""From a sample to a row of a batch: decode, crop, resize, augment."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np

from xlatrain.config.data import AugmentConfig, ImagesConfig
from xlatrain.data.pixels.crop import CentreCrop, RandomCrop, SquareCrop, eval_crop
from xlatrain.data.pixels.decode import Decoder, shift_image
from xlatrain.data.pixels.policy import build_policy
from xlatrain.data.shard_format import Sample, label_outside
from xlatrain.errors import bad_sample, in_a_line


class Preparer:
    """Prepares samples with a decoder: one for each thread. skip: what cannot be decoded is left out. seconds: of
    processor time, by name."""

    def __init__(
        self, config: ImagesConfig, augment: AugmentConfig, classes: int, decoder: Decoder, skip: bool = False
    ):
        self._config, self._augment, self._classes, self._skip = config, augment, classes, skip
        self._decoder, self.decoder = decoder, decoder.name
        a = augment
        self._policies = build_policy(a.policy, a.layers, a.magnitude, a.jitter, a.probability)
        self.seconds: Counter[str] = Counter()

    def train(self, sample: Sample, row: np.ndarray, random: np.random.Generator, min_area: float) -> int | None:
        """Write a training view of a sample to `row`, uint8 [S, S, 3]. Returns the label; None when the image cannot be
        decoded and is to be skipped. Raises DataError."""
        crop = self._centre(row.shape[0])
        if self._augment.crop == "square":
            crop = SquareCrop(crop)
        elif self._augment.crop != "centre":
            crop = RandomCrop(crop, min_area, self._augment.crop)
        if not self._pixels(sample, lambda height, width: crop(height, width, random), row):
            return None
        started = time.thread_time()
        if self._augment.shift:
            row[:] = shift_image(row, self._augment.shift, random)
        for policy in self._policies:
            row[:] = policy(row, random)
        self.seconds["augment"] += time.thread_time() - started
        return self._label(sample)

    def eval(self, sample: Sample, row: np.ndarray) -> int | None:
        """As train, for the view that is evaluated."""
        return self._label(sample) if self._pixels(sample, self._centre(row.shape[0]), row) else None

    def problem(self, sample: Sample, size: int) -> str | None:
        """Why the view that is evaluated cannot be had, in a line; None where it can."""
        try:
            self._decoder.crop(sample.image, self._centre(size))
        except Exception as error:
            return in_a_line(error)
        return None

    def _centre(self, size: int) -> CentreCrop:
        return eval_crop(size, self._config.eval_padding, self._config.eval_ratio)

    def _pixels(self, sample: Sample, choose: object, row: np.ndarray) -> bool:
        started = time.thread_time()
        try:
            pixels = self._decoder.crop(sample.image, choose)
            decoded = time.thread_time()
            self._decoder.resize(pixels, row)
        except Exception as error:  # decoders raise what they like: OSError, ValueError, SyntaxError, struct.error
            if self._skip:
                return False
            raise bad_sample(sample.shard, sample.key, f"cannot be decoded: {in_a_line(error)}") from error
        self.seconds["decode"] += decoded - started
        self.seconds["resize"] += time.thread_time() - decoded
        return True

    def _label(self, sample: Sample) -> int:
        if not 0 <= sample.label < self._classes:
            raise bad_sample(sample.shard, sample.key, label_outside(sample.label, self._classes))
        return sample.label
