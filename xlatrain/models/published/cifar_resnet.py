"""ResNet-18 for images of 32 pixels, as CPD trains it (drcut/CPD, example/ResNet18, verified): timm's, with a stem of
one 3 x 3 convolution that does not shrink the image."""

from __future__ import annotations

import timm
from torch import nn


def cifar_resnet18(num_classes: int) -> nn.Module:
    """Images [N, 3, 32, 32] to logits [N, num_classes]."""
    model = timm.create_model("resnet18", num_classes=num_classes)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model
