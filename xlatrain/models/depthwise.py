"""Another form of a depthwise convolution, a dense one with a diagonal kernel, and which convolutions are depthwise.

On TPU the compiler's own lowering is faster than the shifts that XLA:CPU needs (channels_last/depthwise.py), but for
few channels the matrix unit is faster still. preflight.decide chooses.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn


class DenseDepthwiseConv2d(nn.Module):
    """Takes over a depthwise Conv2d, keeping its parameters: a dense convolution whose kernel is the depthwise one on
    the diagonal and zero elsewhere. Channels times the multiplications, but in the matrix unit instead of the vector
    unit. Input [N, C, H, W]; the same result, since zeros add nothing."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.padding, self.dilation = conv.stride, conv.padding, conv.dilation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, diagonal_kernel(self.weight), self.bias, self.stride, self.padding, self.dilation)


def diagonal_kernel(weight: torch.Tensor) -> torch.Tensor:
    """A depthwise kernel [C, 1, kh, kw] as the dense one [C, C, kh, kw] that does the same."""
    channels = torch.arange(len(weight), device=weight.device)
    diagonal = (channels[:, None] == channels[None, :])[:, :, None, None]
    return torch.where(diagonal, weight, torch.zeros_like(weight))


def convert_depthwise(
    model: nn.Module, form: Callable[[nn.Conv2d], nn.Module], most_channels: int | None = None
) -> int:
    """Replace the depthwise Conv2d of a model by another form, in place, of those with at most so many channels;
    returns how many."""
    found = [(name, module) for name, module in model.named_modules() if _is_plain_depthwise(module)]
    found = [(n, m) for n, m in found if most_channels is None or m.out_channels <= most_channels]
    for name, module in found:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, form(module))
    return len(found)


def is_plain(module: nn.Module) -> bool:
    """Whether a module is a Conv2d that does what its numbers say. Subclasses (timm's Conv2dSame) compute padding of
    their own."""
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _is_plain_depthwise(module: nn.Module) -> bool:
    return is_plain(module) and module.groups == module.in_channels == module.out_channels > 1
