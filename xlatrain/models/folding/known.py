"""What of timm's models is known here, so that it can be folded: the beginnings of EfficientNets and of their like."""

from __future__ import annotations

import torch
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual, SqueezeExcite
from torch import nn


def is_known_stem(model: nn.Module) -> bool:
    """Whether a model begins with a convolution of stride 2, its norm, and stages of blocks."""
    stem, stages = getattr(model, "conv_stem", None), getattr(model, "blocks", None)
    return (
        type(stem) is nn.Conv2d
        and (stem.kernel_size, stem.stride, stem.padding) == ((3, 3), (2, 2), (1, 1))
        and stem.groups == 1
        and stem.bias is None
        and isinstance(stages, nn.Sequential)
        and all(isinstance(stage, nn.Sequential) for stage in stages)
        and _is_quiet(getattr(model, "bn1", None))
    )


def is_known_block(block: nn.Module) -> bool:
    """Whether all of a block is known."""
    if type(block) not in (DepthwiseSeparableConv, InvertedResidual):
        return False
    names = ("conv_pw", "conv_pwl") if type(block) is InvertedResidual else ("conv_pw",)
    pointwise, depthwise = [getattr(block, name) for name in names], block.conv_dw
    return (
        getattr(block, "conv_s2d", None) is None
        and all(type(c) is nn.Conv2d and c.bias is None for c in (*pointwise, depthwise))
        and all((c.kernel_size, c.stride, c.groups) == ((1, 1), (1, 1), 1) for c in pointwise)
        and depthwise.groups == depthwise.in_channels == depthwise.out_channels
        and depthwise.stride in ((1, 1), (2, 2))
        and depthwise.dilation == (1, 1)
        and depthwise.kernel_size[0] == depthwise.kernel_size[1]
        and all(size == 2 * pad + 1 for size, pad in zip(depthwise.kernel_size, depthwise.padding, strict=True))
        and isinstance(block.aa, nn.Identity)
        and isinstance(block.se, (SqueezeExcite, nn.Identity))
        and all(_is_quiet(getattr(block, name)) for name in ("bn1", "bn2", "bn3") if hasattr(block, name))
    )


def channels_of(block: nn.Module) -> tuple[int, int, int]:
    """Of a block's input, of its depthwise convolution, and of its result. The first two are the same where nothing is
    expanded."""
    if type(block) is InvertedResidual:
        return block.conv_pw.in_channels, block.conv_dw.out_channels, block.conv_pwl.out_channels
    return block.conv_dw.in_channels, block.conv_dw.out_channels, block.conv_pw.out_channels


def _is_quiet(norm: nn.Module | None) -> bool:
    """Whether a batch norm's activation leaves zeros, which is what lies beyond the image, as they are."""
    act = getattr(norm, "act", nn.Identity())
    if not hasattr(norm, "running_mean") or any(True for _ in act.parameters()):
        return False
    with torch.no_grad():
        return act(torch.zeros(1)).item() == 0
