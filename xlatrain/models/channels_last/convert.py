"""A whole model on [N, H, W, C], from its images to its pool: no layer of it has to turn them back."""

from __future__ import annotations

import torch
from timm.layers import DropPath
from timm.layers.activations import Sigmoid
from timm.models._efficientnet_blocks import (
    ConvBnAct,
    DepthwiseSeparableConv,
    EdgeResidual,
    InvertedResidual,
    SqueezeExcite,
)
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from xlatrain.models.batch_norm import GroupedBatchNorm
from xlatrain.models.channels_last.layers import ChannelsLastConv2d, ChannelsLastMean, ChannelsLastSqueezeExcite
from xlatrain.models.channels_last.layout import ChannelsLast

# Modules that call others and add what they give: they work on images in any order of axes.
_BLOCKS = (ConvBnAct, DepthwiseSeparableConv, EdgeResidual, InvertedResidual, BasicBlock, Bottleneck, nn.Sequential)
_MODELS = (EfficientNet, ResNet)
_ELEMENTWISE = (nn.Identity, nn.Dropout, DropPath, nn.ReLU, nn.SiLU, nn.Hardswish, nn.GELU, nn.Sigmoid, Sigmoid)


def can_be_channels_last(model: nn.Module) -> bool:
    """Whether a model is of a kind that is known to work so: timm's EfficientNets and ResNets."""
    return type(model) in _MODELS


def convert_channels_last(model: nn.Module) -> None:
    """Change such a model in place, whose batch norms are GroupedBatchNorms. It still takes [N, C, H, W]. A layer that
    is not known, a pool for instance, sees images in the order that it expects."""
    model.register_forward_pre_hook(_to_last)
    _convert_children(model)


def _convert_children(parent: nn.Module) -> None:
    for name, child in list(parent.named_children()):
        if type(child) in _BLOCKS:
            _convert_children(child)
        elif ChannelsLastConv2d.takes_over(child):
            setattr(parent, name, ChannelsLastConv2d(child))
        elif type(child) is SqueezeExcite:
            _convert_children(child)
            setattr(parent, name, ChannelsLastSqueezeExcite(child))
        elif ChannelsLastMean.takes_over(child):
            setattr(parent, name, ChannelsLastMean())
        elif isinstance(child, GroupedBatchNorm):
            child.layout = ChannelsLast()
        elif not isinstance(child, (*_ELEMENTWISE, nn.Linear)):
            child.register_forward_pre_hook(_to_first)
            child.register_forward_hook(_back_to_last)


def _to_last(module: nn.Module, inputs: tuple) -> tuple:
    return (inputs[0].permute(0, 2, 3, 1), *inputs[1:])


def _to_first(module: nn.Module, inputs: tuple) -> tuple:
    return tuple(t.permute(0, 3, 1, 2) if t.ndim == 4 else t for t in inputs)


def _back_to_last(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    return output.permute(0, 2, 3, 1) if output.ndim == 4 else output
