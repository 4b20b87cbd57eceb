"""A convolution through the builder (xla/convolution.py) with its gradients."""

from __future__ import annotations

from typing import Any

import torch

from xlatrain.xla.convolution import Geometry, convolve, kernel_gradient


class Convolve(torch.autograd.Function):
    """apply(x, kernel, onward, back): x [N, H, W, I] by kernel [h, w, I, O], or both with groups, to [N, H', W', O].
    onward: of the convolution; back: of that of its result's gradient by the kernel turned round, which gives x's."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kernel: torch.Tensor, onward: Geometry, back: Geometry) -> torch.Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.moves = onward, back
        return convolve(x, kernel, onward)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor):
        x, kernel = ctx.saved_tensors
        onward, back = ctx.moves
        of_x = of_kernel = None
        if ctx.needs_input_grad[0]:
            of_x = convolve(gradient, kernel.flip(0, 1).transpose(-1, -2), back)
        if ctx.needs_input_grad[1]:
            of_kernel = kernel_gradient(x, gradient, onward)
        return of_x, of_kernel, None, None
