"""Other forms of a depthwise convolution: as k·k shifted multiply-adds, and as a dense one with a diagonal kernel.

XLA:CPU runs native ones 4 to 13 times slower than shifts (measured, torch_xla 2.9, 2 cores). On TPU the compiler's own
lowering is faster than shifts, but for few channels the matrix unit is faster still. preflight.decide chooses.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ShiftDepthwiseConv2d(nn.Module):
    """Takes over a depthwise Conv2d (groups = in = out channels), keeping its parameters.

    Input [N, C, H, W]. Under bf16 autocast the operands are rounded to bf16 and products summed in float32, which is
    what the native convolution of a TPU does; the output has the autocast dtype.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.dilation, self.kernel_size = conv.stride, conv.dilation, conv.kernel_size
        self.padding = conv.padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        image, weight = x.to(dtype).float(), self.weight.to(dtype).float()
        (kh, kw), (sh, sw), (dh, dw), (ph, pw) = self.kernel_size, self.stride, self.dilation, self.padding
        image = F.pad(image, (pw, pw, ph, ph))
        height = (image.shape[2] - dh * (kh - 1) - 1) // sh + 1
        width = (image.shape[3] - dw * (kw - 1) - 1) // sw + 1
        total = None
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dh, i * dh + (height - 1) * sh + 1, sh)
                columns = slice(j * dw, j * dw + (width - 1) * sw + 1, sw)
                term = image[:, :, rows, columns] * weight[:, 0, i, j].view(1, -1, 1, 1)
                total = term if total is None else total + term
        if self.bias is not None:
            total = total + self.bias.view(1, -1, 1, 1)
        return total.to(dtype)


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


def convert_depthwise(model: nn.Module, form: type[nn.Module], most_channels: int | None = None) -> int:
    """Replace the depthwise Conv2d of a model by another form, in place, of those with at most so many channels;
    returns how many."""
    found = [(name, module) for name, module in model.named_modules() if _is_plain_depthwise(module)]
    found = [(n, m) for n, m in found if most_channels is None or m.out_channels <= most_channels]
    for name, module in found:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, form(module))
    return len(found)


def _is_plain_depthwise(module: nn.Module) -> bool:
    # Subclasses (timm's Conv2dSame) compute padding of their own and stay as they are.
    return (
        type(module) is nn.Conv2d
        and module.groups == module.in_channels == module.out_channels > 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )
