"""Models that take a second to trace and compile: for tests of what does not depend on the model."""

from functools import partial

import torch
from timm.layers import BatchNormAct2d, DropPath
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual, SqueezeExcite
from torch import nn

SMALL = "model._target_=tests.nets.Small"
MOBILE = "model._target_=tests.nets.Mobile"
PLAIN = "model._target_=tests.nets.Plain"
NOISY = ("model._target_=tests.nets.Noisy", "model.drop_rate=null", "model.drop_path_rate=null")


class Small(nn.Module):
    """Two convolutions with batch norm, dropout and a linear layer."""

    norm = nn.BatchNorm2d

    def __init__(self, num_classes: int, drop: float = 0.0):
        super().__init__()
        layers: list[nn.Module] = []
        for inside, outside in ((3, 16), (16, 32)):
            layers += [nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False), self.norm(outside), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(32, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.body(images).mean((2, 3))))


class Plain(Small):
    """The same without batch norm, so that an image's gradient does not depend on its neighbours."""

    norm = nn.Identity


class Noisy(Small):
    """The same with dropout and stochastic depth."""

    def __init__(self, num_classes: int):
        super().__init__(num_classes, drop=0.2)
        self.branch, self.path = nn.Conv2d(32, 32, 3, padding=1), DropPath(0.1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.body(images)
        return self.head(self.drop((seen + self.path(self.branch(seen))).mean((2, 3))))


class Mobile(nn.Module):
    """An EfficientNet of three blocks, named as timm names them: one that keeps its size, one that halves it, one with
    a skip that is expanded to 64 channels. What tests of folded images need of one."""

    def __init__(self, num_classes: int, drop_path: float = 0.0):
        super().__init__()
        se = partial(SqueezeExcite, rd_ratio=0.25)
        norm = partial(BatchNormAct2d, act_layer=nn.SiLU)
        options = {"se_layer": se, "act_layer": nn.SiLU, "drop_path_rate": drop_path}
        self.conv_stem, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), norm(8)
        first = DepthwiseSeparableConv(8, 8, 3, **options)
        second = InvertedResidual(8, 16, 3, stride=2, exp_ratio=2.0, **options)
        third = InvertedResidual(16, 16, 3, exp_ratio=4.0, **options)
        self.blocks = nn.Sequential(nn.Sequential(first), nn.Sequential(second, third))
        self.head = nn.Linear(16, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.bn1(self.conv_stem(images))).mean((2, 3)))
