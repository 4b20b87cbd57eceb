"""AlexNet with batch norm in place of local response normalisation, as LARS was shown on (borisgin/nvcaffe,
models/alexnet_bn/train_val2.prototxt, verified): convolutions in two groups, batch norm after the first two pools and
the third and fourth ReLU, without scale and shift."""

from __future__ import annotations

import torch
from torch import nn


class AlexNetBN(nn.Module):
    """Images [N, 3, 227, 227] to logits [N, num_classes]. drop: of both hidden layers."""

    def __init__(self, num_classes: int, drop: float = 0.5):
        super().__init__()
        self.features = nn.Sequential(
            *_conv(3, 96, 11, stride=4), nn.MaxPool2d(3, 2), _norm(96),
            *_conv(96, 256, 5, padding=2, groups=2), nn.MaxPool2d(3, 2), _norm(256),
            *_conv(256, 384, 3, padding=1), _norm(384),
            *_conv(384, 384, 3, padding=1, groups=2), _norm(384),
            *_conv(384, 256, 3, padding=1, groups=2), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.fc6, self.fc7 = _linear(256 * 6 * 6, 4096, 0.005, 0.1), _linear(4096, 4096, 0.005, 0.1)
        self.drop6, self.drop7 = nn.Dropout(drop), nn.Dropout(drop)
        self.fc8 = _linear(4096, num_classes, 0.01, 0.01)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.features(images).flatten(1)
        seen = self.drop6(torch.relu(self.fc6(seen)))
        return self.fc8(self.drop7(torch.relu(self.fc7(seen))))

    def get_classifier(self) -> nn.Module:
        """As timm's models have it."""
        return self.fc8


def _conv(inside: int, outside: int, kernel: int, **more: int) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(inside, outside, kernel, **more)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, 0.01)
    return conv, nn.ReLU()


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-4, momentum=0.1, affine=False)


def _linear(inside: int, outside: int, std: float, bias: float) -> nn.Linear:
    linear = nn.Linear(inside, outside)
    nn.init.normal_(linear.weight, std=std)
    nn.init.constant_(linear.bias, bias)
    return linear
