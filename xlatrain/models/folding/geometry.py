"""Where the pixels of a folded image lie, and which folds of one image a convolution reaches from those of another."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Axis:
    """Rows or columns of an image. size: in pixels. fold: pixels of a fold. start: the pixel that the first fold begins
    with, 0 or before; places beyond the image hold zeros."""

    size: int
    fold: int = 1
    start: int = 0

    @property
    def folds(self) -> int:
        return -(-(self.size - self.start) // self.fold)

    @property
    def is_full(self) -> bool:
        """Whether all places are of the image."""
        return self.start == 0 and self.size % self.fold == 0

    def inside(self, pixel: torch.Tensor) -> torch.Tensor:
        """bool [folds, lanes], true where the place is of the image. pixel: of each lane, int [lanes]."""
        place = self.start + torch.arange(self.folds, device=pixel.device)[:, None] * self.fold + pixel[None, :]
        return (place >= 0) & (place < self.size)


@dataclass(frozen=True)
class Window:
    """The folds that a fold of the result meets, along one axis: fold f is a sum over `taps` folds of the input,
    dilated by `dilation`, from step · f + first on."""

    step: int
    dilation: int
    first: int
    taps: int

    @classmethod
    def between(cls, inside: Axis, outside: Axis, size: int = 1, stride: int = 1, padding: int = 0) -> Window:
        """Of a convolution over pixels, from an image to its result. Raises ValueError where the folds of the two do
        not go into each other."""
        moved = stride * outside.fold
        unit = min(inside.fold, moved)
        if inside.fold % unit or moved % unit:
            raise ValueError(f"folds of {inside.fold} pixels do not go into {moved}, or the other way")
        ahead = stride * outside.start - padding - inside.start
        first = -((inside.fold - 1 - ahead) // unit)
        last = (ahead + size - 1 + stride * (outside.fold - 1)) // unit
        return cls(moved // unit, inside.fold // unit, first, last - first + 1)

    def back(self) -> Window:
        """Of the gradient: from the result to the input, with the kernel turned round."""
        return Window(self.dilation, self.step, 1 - self.first - self.taps, self.taps)

    def padding(self, inside: int, outside: int) -> tuple[int, int]:
        """Before and after the input. inside, outside: folds of the two."""
        last = self.step * (outside - 1) + self.first + self.taps
        return -self.first, last - ((inside - 1) * self.dilation + 1)

    def meets(
        self, inside: Axis, outside: Axis, size: int = 1, stride: int = 1, padding: int = 0, device: object = None
    ) -> torch.Tensor:
        """Which of the kernel's `size` values leads from pixel q of a fold of the input, t taps on, to pixel p of the
        fold of the result: bool [taps, inside.fold, outside.fold, size]."""
        sizes = self.taps, inside.fold, outside.fold, size
        t, q, p, d = (torch.arange(n, device=device).view([-1] + [1] * (3 - i)) for i, n in enumerate(sizes))
        unit = inside.fold // self.dilation
        return inside.start + unit * (self.first + t) + q - stride * (outside.start + p) + padding == d


@dataclass(frozen=True)
class Layout:
    """An activation [N, rows, columns, lanes] of folded images, a lane of it being (pixel of the fold, channel). In
    groups of channels, [N, rows, columns, groups, lanes], a lane is (pixel, channel of the group).

    It tells batch norm what belongs to a channel (models/batch_norm.py: Layout).
    """

    rows: Axis
    columns: Axis
    channels: int
    group: int | None = None

    @property
    def pixels(self) -> int:
        return self.rows.fold * self.columns.fold

    @property
    def split(self) -> tuple[int, ...]:
        """The lanes as (pixel, channel), with the groups before them if there are any."""
        grouped = (self.channels // self.group,) if self.group else ()
        return *grouped, self.pixels, self.group or self.channels

    @property
    def lanes(self) -> tuple[int, ...]:
        """The shape of an activation behind rows and columns."""
        *grouped, pixels, channels = self.split
        return *grouped, pixels * channels

    @property
    def is_full(self) -> bool:
        return self.rows.is_full and self.columns.is_full

    @property
    def axes(self) -> tuple[int, ...]:
        """Of an activation, those that are no channels."""
        return 0, 1, 2

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """[..., channels] to [..., lanes], to broadcast against an activation."""
        *grouped, pixels, channels = self.split
        lead = values.shape[:-1]
        each = values.reshape(*lead, *grouped, 1, channels).expand(*lead, *grouped, pixels, channels)
        return each.reshape(*lead, *self.lanes)

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """[..., lanes] to [..., channels]: sums over the pixels of a fold."""
        lead = values.shape[: values.ndim - len(self.lanes)]
        return values.reshape(*lead, *self.split).sum(-2).reshape(*lead, self.channels)

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """An activation to [channels]."""
        return self.gather(x.sum(self.axes))

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Of values that are zero beyond the image."""
        return self.sum(x) / self.count(x)

    def count(self, x: torch.Tensor) -> int:
        """Values of a channel."""
        return x.shape[0] * self.rows.size * self.columns.size

    def inside(self, device: object) -> torch.Tensor | None:
        """Which places are of the image: bool, broadcasts against an activation; None where all are."""
        if self.is_full:
            return None
        *_, pixels, channels = self.split
        pixel = torch.arange(pixels * channels, device=device) // channels
        rows = self.rows.inside(pixel // self.columns.fold)[:, None]
        columns = self.columns.inside(pixel % self.columns.fold)[None]
        both = rows & columns
        return both[:, :, None] if self.group else both
