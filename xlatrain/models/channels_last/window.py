"""How the kernel of a convolution moves over images [N, H, W, C]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Window:
    """How a kernel moves over an image; each of (height, width)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def padded(self, x: torch.Tensor) -> torch.Tensor:
        (ph, pw) = self.padding
        return F.pad(x, (0, 0, pw, pw, ph, ph))

    def sizes(self, image: Sequence[int]) -> tuple[int, int]:
        """Height and width of the result, from those of an image that is not padded yet."""
        spans = (d * (k - 1) + 1 - 2 * p for k, d, p in zip(self.kernel, self.dilation, self.padding, strict=True))
        return tuple((n - span) // s + 1 for n, span, s in zip(image, spans, self.stride, strict=True))

    def taps(self) -> list[tuple[int, int]]:
        return [(i, j) for i in range(self.kernel[0]) for j in range(self.kernel[1])]

    def seen(self, padded: torch.Tensor, tap: tuple[int, int]) -> torch.Tensor:
        """What a tap of the kernel meets at each place of the result."""
        sizes = self.sizes([n - 2 * p for n, p in zip(padded.shape[1:3], self.padding, strict=True)])
        for axis, n in enumerate(sizes):
            start, stride = tap[axis] * self.dilation[axis], self.stride[axis]
            padded = cut(padded, axis + 1, start, start + (n - 1) * stride + 1, stride)
        return padded


def cut(x: torch.Tensor, axis: int, start: int, stop: int, step: int = 1) -> torch.Tensor:
    """A piece of x along one axis."""
    return x[(slice(None),) * axis + (slice(start, stop, step),)]
