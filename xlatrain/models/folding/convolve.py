"""Convolutions of folded images with their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from xlatrain.models.folding.geometry import Window
from xlatrain.xla.convolution import Geometry, convolve, kernel_gradient


class Convolve(torch.autograd.Function):
    """apply(x, kernel, windows, size): x [N, h, w, I] by kernel [taps, taps, I, O], or both with groups, to
    [N, *size, O]. windows: of rows and columns."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, kernel: torch.Tensor, windows: tuple[Window, Window], size: tuple[int, int]
    ) -> torch.Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.windows = windows
        return convolve(x, kernel, _geometry(windows, x.shape[1:3], size))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor):
        x, kernel = ctx.saved_tensors
        folds, size = x.shape[1:3], gradient.shape[1:3]
        of_x = of_kernel = None
        if ctx.needs_input_grad[0]:
            back = tuple(window.back() for window in ctx.windows)
            of_x = convolve(gradient, kernel.flip(0, 1).transpose(-1, -2), _geometry(back, size, folds))
        if ctx.needs_input_grad[1]:
            of_kernel = kernel_gradient(x, gradient, _geometry(ctx.windows, folds, size))
        return of_x, of_kernel, None, None


def _geometry(windows: Sequence[Window], inside: Sequence[int], outside: Sequence[int]) -> Geometry:
    rows, columns = windows
    return Geometry(
        (rows.step, columns.step),
        (rows.dilation, columns.dilation),
        (rows.padding(inside[0], outside[0]), columns.padding(inside[1], outside[1])),
    )
