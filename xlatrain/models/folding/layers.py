"""Modules that take the place of timm's on folded images, with their parameters."""

from __future__ import annotations

from dataclasses import replace

import torch
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import nn

from xlatrain.models.dtypes import autocast_dtype, wide
from xlatrain.models.folding.convolve import convolve_folds
from xlatrain.models.folding.geometry import Layout, Window
from xlatrain.models.folding.kernels import dense_kernel, depthwise_kernel, pointwise_kernel


class FoldedConv2d(nn.Module):
    """Takes over a Conv2d without bias. inside, outside: how its input and its result are laid out. enters: the input
    is [N, C, H, W], of an inside that is not folded."""

    def __init__(self, conv: nn.Conv2d, inside: Layout, outside: Layout, enters: bool = False):
        super().__init__()
        self.weight, self.enters = conv.weight, enters
        self.inside, self.outside, self.then = inside, outside, nn.Identity()
        if inside.group and not outside.group and (inside.rows, inside.columns) != (outside.rows, outside.columns):
            # Out of groups first, then to other folds: in one convolution each group would be moved by itself.
            self.outside = replace(outside, rows=inside.rows, columns=inside.columns)
            self.then = Refold(self.outside, outside)
        self.depthwise = conv.groups > 1
        self.options = [
            {"size": conv.kernel_size[i], "stride": conv.stride[i], "padding": conv.padding[i]} for i in (0, 1)
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 2, 3, 1) if self.enters else x
        return self.then(self._folded(x.to(autocast_dtype(x))))

    def _folded(self, x: torch.Tensor) -> torch.Tensor:
        axes = (self.inside.rows, self.outside.rows), (self.inside.columns, self.outside.columns)
        windows = [Window.between(*pair, **how) for pair, how in zip(axes, self.options, strict=True)]
        rows, columns = (
            window.meets(*pair, **how, device=x.device)
            for window, pair, how in zip(windows, axes, self.options, strict=True)
        )
        here, there = self.inside.group, self.outside.group
        if self.depthwise:
            kernel = depthwise_kernel(self.weight, rows, columns, here)
        elif self.weight.shape[2:] == (1, 1):
            kernel = pointwise_kernel(self.weight, rows, columns, here, there)
        else:
            kernel = dense_kernel(self.weight, rows, columns, there)
            x = x[:, :, :, None].expand(*x.shape[:3], kernel.shape[2], x.shape[3]) if there else x
            here = there
        kernel = kernel.to(x.dtype)
        if here == there or self.depthwise:
            return convolve_folds(x, kernel, windows, (self.outside.rows.folds, self.outside.columns.folds))
        # From or to groups, pixel for pixel: a product.
        with torch.autocast(x.device.type, enabled=False):
            return torch.einsum("nhwi,idc->nhwdc" if there else "nhwdc,dco->nhwo", x, kernel[0, 0])


class Refold(nn.Module):
    """The same values, laid out in another way: by a convolution with ones and zeros, since the matrix unit moves
    values exactly and in less time than it takes to copy them. enters: the input is [N, C, H, W], of an inside that is
    not folded; leaves: so is the result."""

    def __init__(self, inside: Layout, outside: Layout, enters: bool = False, leaves: bool = False):
        super().__init__()
        self.inside, self.outside, self.enters, self.leaves = inside, outside, enters, leaves

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 2, 3, 1) if self.enters else x
        y = x if self.inside == self.outside else self._moved(x)
        return y.permute(0, 3, 1, 2) if self.leaves else y

    def _moved(self, x: torch.Tensor) -> torch.Tensor:
        channels = self.inside.channels
        axes = (self.inside.rows, self.outside.rows), (self.inside.columns, self.outside.columns)
        windows = [Window.between(*pair) for pair in axes]
        rows, columns = (w.meets(*pair, device=x.device) for w, pair in zip(windows, axes, strict=True))
        channel = torch.arange(channels, device=x.device)
        ones = (channel[:, None] == channel[None, :]).to(x.dtype).view(channels, channels, 1, 1)
        kernel = pointwise_kernel(ones, rows, columns, None, None)
        return convolve_folds(x, kernel, windows, (self.outside.rows.folds, self.outside.columns.folds))


class FoldedSqueezeExcite(nn.Module):
    """timm's SqueezeExcite, its layers kept: the mean is that of the image, the gate that of all its pixels."""

    def __init__(self, se: SqueezeExcite, layout: Layout):
        super().__init__()
        self.conv_reduce, self.act1, self.conv_expand, self.gate = se.conv_reduce, se.act1, se.conv_expand, se.gate
        self.layout = layout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pixels = self.layout.rows.size * self.layout.columns.size
        mean = (self.layout.gather(wide(x).sum((1, 2))) / pixels).to(x.dtype)[:, :, None, None]
        gate = self.gate(self.conv_expand(self.act1(self.conv_reduce(mean))))[:, :, 0, 0]
        return x * self.layout.spread(gate)[:, None, None]
