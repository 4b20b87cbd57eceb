"""Models that take a second to trace and compile: for tests of what does not depend on the model."""

import torch
from timm.layers import DropPath
from torch import nn

SMALL = "model._target_=tests.nets.Small"
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
