"""DavidNet, the ResNet of nine layers that trains CIFAR-10 to 94 % in 24 epochs (davidcpage/cifar10-fast, dawn.py,
verified): convolutions with batch norm, two residual blocks, a maximum at the end, logits times an eighth."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class DavidNet(nn.Module):
    """Images [N, 3, 32, 32] to logits [N, num_classes]; larger ones by a global maximum.

    celu: alpha of the CELU that takes ReLU's place, None for ReLU. pool_first: each pool before its batch norm and
    activation, not after. scale: factor on the logits. In the repository's new_dawn.py they are 0.3, True, 1/16. width:
    channels of the first layer.
    """

    def __init__(
        self,
        num_classes: int,
        celu: float | None = None,
        pool_first: bool = False,
        scale: float = 0.125,
        width: int = 64,
    ):
        super().__init__()

        def conv(inside: int, outside: int, pool: bool = False) -> nn.Sequential:
            act = nn.ReLU() if celu is None else nn.CELU(celu)
            after = [nn.BatchNorm2d(outside), act]
            shrink = [nn.MaxPool2d(2)] if pool else []
            layers = [*shrink, *after] if pool_first else [*after, *shrink]
            return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1, bias=False), *layers)

        self.scale = scale
        self.prep = conv(3, width)
        self.layer1 = nn.Sequential(conv(width, 2 * width, pool=True), _Residual(conv, 2 * width))
        self.layer2 = conv(2 * width, 4 * width, pool=True)
        self.layer3 = nn.Sequential(conv(4 * width, 8 * width, pool=True), _Residual(conv, 8 * width))
        self.linear = nn.Linear(8 * width, num_classes, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.layer3(self.layer2(self.layer1(self.prep(images))))
        return self.linear(seen.amax((2, 3))) * self.scale

    def get_classifier(self) -> nn.Module:
        """As timm's models have it."""
        return self.linear


class _Residual(nn.Module):
    """x plus two convolutions of it."""

    def __init__(self, conv: Callable[[int, int], nn.Module], channels: int):
        super().__init__()
        self.first, self.second = conv(channels, channels), conv(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x))
