"""Models that take a second to trace and compile: for tests of what does not depend on the model."""

import torch
from torch import nn

SMALL = "model._target_=tests.nets.Small"
PLAIN = "model._target_=tests.nets.Plain"


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
