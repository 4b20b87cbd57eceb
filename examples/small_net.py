"""A model of your own: any nn.Module from images float32 [N, 3, H, W] to logits [N, classes].

    xlatrain train model._target_=examples.small_net.SmallNet +model.kwargs.width=24

It is called with num_classes and what is under model.kwargs. Its batch norms become those of replica groups, its
parameters are initialised under train.seed, and its weights are saved under its own names.
"""

import torch
from torch import nn


class SmallNet(nn.Module):
    """Three convolutions of stride 2, each with batch norm, and a linear layer."""

    def __init__(self, num_classes: int, width: int = 16):
        super().__init__()
        layers: list[nn.Module] = []
        for inside, outside in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outside)]
            layers.append(nn.ReLU(inplace=True))
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).mean((2, 3)))
