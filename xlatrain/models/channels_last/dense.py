"""A dense convolution on [N, H, W, C]: a matrix product over pixels where it is 1 x 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xlatrain.models.channels_last.window import Window
from xlatrain.models.convolve import Convolve
from xlatrain.xla.convolution import Geometry


def convolve_pointwise(x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int]) -> torch.Tensor:
    """x [N, H, W, I], weight [O, I, 1, 1] to [N, H', W', O]."""
    rows, columns = stride
    x = x if stride == (1, 1) else x[:, ::rows, ::columns]
    return (x.reshape(-1, x.shape[3]) @ weight[:, :, 0, 0].t()).reshape(*x.shape[:3], -1)


def convolve_dense(x: torch.Tensor, weight: torch.Tensor, window: Window) -> torch.Tensor:
    """x [N, H, W, I], weight [O, I, h, w] to [N, H', W', O]."""
    size, result = x.shape[1:3], window.sizes(x.shape[1:3])
    kernel = weight.permute(2, 3, 1, 0)
    return Convolve.apply(x, kernel, _onward(window, size, result), _back(window, size, result))


def _onward(window: Window, size: Sequence[int], result: Sequence[int]) -> Geometry:
    """From an image of that size; padded after it by no more than what is read, else cut."""
    padding = tuple(
        (p, d * (k - 1) + 1 + (m - 1) * s - n - p)
        for n, m, k, s, p, d in zip(size, result, *_axes(window), strict=True)
    )
    return Geometry(window.stride, (1, 1), padding, window.dilation)


def _back(window: Window, size: Sequence[int], result: Sequence[int]) -> Geometry:
    """From the gradient of the result to that of an image of that size."""
    padding = tuple(
        (d * (k - 1) - p, n - 1 - (m - 1) * s + p)
        for n, m, k, s, p, d in zip(size, result, *_axes(window), strict=True)
    )
    return Geometry((1, 1), window.stride, padding, window.dilation)


def _axes(window: Window) -> tuple[tuple[int, int], ...]:
    return window.kernel, window.stride, window.padding, window.dilation
