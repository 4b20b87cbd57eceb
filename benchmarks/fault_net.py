"""The model of runs that are disturbed: small, so that it is soon compiled, with what could go wrong in it."""

import torch
from torch import nn


class Net(nn.Module):
    """Convolutions with batch norm and dropout, and a linear layer."""

    def __init__(self, num_classes: int):
        super().__init__()
        layers: list[nn.Module] = []
        for inside, outside in ((3, 24), (24, 48)):
            layers += [nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outside)]
            layers += [nn.ReLU(), nn.Dropout(0.1)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(48, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).mean((2, 3)))
