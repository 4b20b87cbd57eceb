"""Random images with labels that can be learnt, for benchmarks: no reading, no decoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from xlatrain.data import order

if TYPE_CHECKING:
    from xlatrain.data.dataset import Batch, Place

_PREPARED = 4  # distinct batches, made once and handed out in turn, so that making them costs a run nothing


@dataclass(frozen=True)
class SyntheticSplit:
    """`samples` images of uniform noise whose brightness tells the label."""

    samples: int
    image_size: int
    num_classes: int

    def train_batches(self, place: Place, seed: int, first_step: int) -> Iterator[Batch]:
        prepared = [self._batch(place, seed + i) for i in range(_PREPARED)]
        while True:
            yield prepared[first_step % _PREPARED]
            first_step += 1

    def eval_batches(self, place: Place) -> Iterator[Batch]:
        first, last, batches = order.eval_range(self.samples, place.batch, place.process, place.processes)
        prepared = [self._batch(place, -1 - i) for i in range(_PREPARED)]
        for n in range(batches):
            present = min(max(last - first - n * place.batch, 0), place.batch)
            mask = (torch.arange(place.batch) < present).float()
            yield prepared[n % _PREPARED] | {"mask": mask}

    def _batch(self, place: Place, seed: int) -> Batch:
        random = torch.Generator().manual_seed(seed * 65_537 + place.process)
        labels = torch.randint(0, self.num_classes, (place.batch,), generator=random)
        shape = (place.batch, self.image_size, self.image_size, 3)
        noise = torch.randint(0, 128, shape, generator=random, dtype=torch.uint8)
        light = (labels * 127 // max(1, self.num_classes - 1)).to(torch.uint8)
        return {"images": noise + light.view(-1, 1, 1, 1), "labels": labels, "skipped": torch.zeros(place.batch)}
