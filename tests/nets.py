"""A model that takes a second to trace and compile: for tests of what does not depend on the model."""

import torch
from torch import nn

SMALL = "model._target_=tests.nets.Small"


class Small(nn.Module):
    """Two convolutions with batch norm, dropout and a linear layer."""

    def __init__(self, num_classes: int, drop: float = 0.0):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(32, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.body(images).mean((2, 3))))
