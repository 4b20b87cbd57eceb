"""The memory of a host batch: one block, so that another process can fill it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

Batch = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class BatchShape:
    """A batch of images uint8 [batch, size, size, 3], labels int64 [batch] and skipped float32 [batch], 1 where an
    image could not be decoded; masked: also mask float32 [batch], 1 where a row counts."""

    batch: int
    size: int
    masked: bool = False

    @property
    def bytes(self) -> int:
        return sum(math.prod(shape) * np.dtype(dtype).itemsize for _, shape, dtype in self._parts())

    def views(self, memory: np.ndarray) -> dict[str, np.ndarray]:
        """The parts of a block of uint8 memory, as they lie in it."""
        parts, at = {}, 0
        for name, shape, dtype in self._parts():
            size = math.prod(shape) * np.dtype(dtype).itemsize
            parts[name] = memory[at : at + size].view(dtype).reshape(shape)
            at += size
        return {"images": parts.pop("images"), **parts}

    def new(self) -> dict[str, np.ndarray]:
        """The parts in memory of their own."""
        return self.views(np.empty(self.bytes, np.uint8))

    def _parts(self) -> list[tuple[str, tuple[int, ...], type]]:
        # Widest numbers first: each part then begins where its type asks for.
        flags = ["skipped", "mask"] if self.masked else ["skipped"]
        return [
            ("labels", (self.batch,), np.int64),
            *((name, (self.batch,), np.float32) for name in flags),
            ("images", (self.batch, self.size, self.size, 3), np.uint8),
        ]


def as_tensors(parts: dict[str, np.ndarray]) -> Batch:
    """The same memory as tensors, which keep it alive."""
    import torch

    return {name: torch.from_numpy(part) for name, part in parts.items()}


Rows = dict[str, np.ndarray]
Bad = tuple[str, str]  # the shard and key of a sample that cannot be decoded
Fill = tuple[BatchShape, Callable[[Rows], Bad | None]]


class BatchSource(Protocol):
    """The batches of one process, each made by all of its workers, each of whom fills rows of it. Picklable; opens
    nothing until it is read."""

    @property
    def largest(self) -> int:
        """Bytes that hold any batch."""
        ...

    def open(self) -> None:
        """Make what only the reading process has."""
        ...

    def shapes(self) -> Iterator[BatchShape]:
        """Every batch in turn."""
        ...

    def fills(self, worker: int) -> Iterator[Fill]:
        """Batch after batch: its shape, and a function that fills a worker's rows in memory of it and returns the first
        sample that cannot be decoded, where that is no error."""
        ...

    def finish(self, rows: Rows, bad: Bad | None) -> None:
        """Complete a batch whose rows are all filled. bad: one of its samples that could not be decoded."""
        ...
