"""A dense convolution on [N, H, W, C]: a matrix product over pixels where it is 1 x 1."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from xlatrain.models.channels_last.window import Window
from xlatrain.xla import convolve


def convolve_pointwise(x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int]) -> torch.Tensor:
    """x [N, H, W, I], weight [O, I, 1, 1] to [N, H', W', O]."""
    rows, columns = stride
    x = x if stride == (1, 1) else x[:, ::rows, ::columns]
    return (x.reshape(-1, x.shape[3]) @ weight[:, :, 0, 0].t()).reshape(*x.shape[:3], -1)


def convolve_dense(x: torch.Tensor, weight: torch.Tensor, window: Window) -> torch.Tensor:
    """x [N, H, W, I], weight [O, I, h, w] to [N, H', W', O]."""
    if x.is_xla:
        return _Dense.apply(x, weight.permute(2, 3, 1, 0), window)
    images = F.conv2d(x.permute(0, 3, 1, 2), weight, None, window.stride, window.padding, window.dilation)
    return images.permute(0, 2, 3, 1)


class _Dense(torch.autograd.Function):
    """x [N, H, W, I] by a kernel [h, w, I, O]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kernel: torch.Tensor, window: Window) -> torch.Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.window = window
        return convolve.convolve(x, kernel, window.stride, window.padding, window.dilation)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        x, kernel = ctx.saved_tensors
        moves = ctx.window.stride, ctx.window.padding, ctx.window.dilation
        dx = convolve.input_gradient(grad, kernel, tuple(x.shape[1:3]), *moves) if ctx.needs_input_grad[0] else None
        return dx, convolve.weight_gradient(x, grad, ctx.window.kernel, *moves), None
