"""Convolutions of folded images."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xlatrain.models.convolve import Convolve
from xlatrain.models.folding.geometry import Window
from xlatrain.xla.convolution import Geometry


def convolve_folds(
    x: torch.Tensor, kernel: torch.Tensor, windows: Sequence[Window], size: Sequence[int]
) -> torch.Tensor:
    """x [N, h, w, I] by kernel [taps, taps, I, O], or both with groups, to [N, *size, O]. windows: of rows and
    columns."""
    inside = x.shape[1:3]
    back = [window.back() for window in windows]
    return Convolve.apply(x, kernel, _geometry(windows, inside, size), _geometry(back, size, inside))


def _geometry(windows: Sequence[Window], inside: Sequence[int], outside: Sequence[int]) -> Geometry:
    rows, columns = windows
    return Geometry(
        (rows.step, columns.step),
        (rows.dilation, columns.dilation),
        (rows.padding(inside[0], outside[0]), columns.padding(inside[1], outside[1])),
    )
