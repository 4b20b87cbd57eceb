"""Layers that take and give [N, H, W, C]. Each takes over one of torch's or timm's, keeping names and parameters."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import SelectAdaptivePool2d
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import nn

from xlatrain.models.channels_last.dense import convolve_dense, convolve_pointwise
from xlatrain.models.channels_last.depthwise import convolve_depthwise
from xlatrain.models.channels_last.sums import image_sums
from xlatrain.models.channels_last.window import Window
from xlatrain.models.depthwise import is_plain
from xlatrain.models.dtypes import autocast_dtype, wide


class ChannelsLastConv2d(nn.Module):
    """Takes over a Conv2d that `takes_over` says yes to.

    Under bf16 autocast the operands are rounded to bf16 and products summed in float32, which is what the convolution
    of a TPU does; the output has the autocast dtype. first: input and output are [N, C, H, W] all the same.
    """

    def __init__(self, conv: nn.Conv2d, first: bool = False):
        super().__init__()
        self.weight, self.bias, self.first = conv.weight, conv.bias, first
        self.depthwise = conv.groups > 1
        self.window = Window(conv.kernel_size, conv.stride, conv.padding, conv.dilation)

    @staticmethod
    def takes_over(conv: nn.Module) -> bool:
        """Subclasses (timm's Conv2dSame) compute padding of their own, and groups of several channels are left out."""
        return is_plain(conv) and (conv.groups == 1 or conv.groups == conv.in_channels == conv.out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 2, 3, 1) if self.first else x
        dtype = autocast_dtype(x)
        x, weight, window = wide(x.to(dtype)), wide(self.weight.to(dtype)), self.window
        with torch.autocast(x.device.type, enabled=False):
            if self.depthwise:
                y = convolve_depthwise(x, weight, window)
            elif (window.kernel, window.padding) == ((1, 1), (0, 0)):
                y = convolve_pointwise(x, weight, window.stride)
            else:
                y = convolve_dense(x, weight, window)
        y = (y if self.bias is None else y + self.bias).to(dtype)
        return y.permute(0, 3, 1, 2) if self.first else y


class ChannelsLastSqueezeExcite(nn.Module):
    """Takes over timm's SqueezeExcite, whose convolutions are converted too."""

    def __init__(self, se: SqueezeExcite):
        super().__init__()
        self.conv_reduce, self.act1, self.conv_expand, self.gate = se.conv_reduce, se.act1, se.conv_expand, se.gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.gate(self.conv_expand(self.act1(self.conv_reduce(_image_means(x)[:, None, None]))))
        return _Gated.apply(x, gate[:, 0, 0].to(x.dtype))


class ChannelsLastMean(nn.Module):
    """Takes over timm's global average pool: [N, H, W, C] to [N, C]."""

    @staticmethod
    def takes_over(pool: nn.Module) -> bool:
        flat = isinstance(pool, SelectAdaptivePool2d) and not isinstance(pool.flatten, nn.Identity)
        return flat and pool.pool_type in ("avg", "fast", "fastavg")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _image_means(x)


class _Gated(torch.autograd.Function):
    """x [N, H, W, C] times a gate [N, C]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, gate)
        return x * gate[:, None, None]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        x, gate = ctx.saved_tensors
        return grad * gate[:, None, None], image_sums(wide(grad) * wide(x)).to(gate.dtype)


def _image_means(x: torch.Tensor) -> torch.Tensor:
    return (image_sums(x) / (x.shape[1] * x.shape[2])).to(x.dtype)
