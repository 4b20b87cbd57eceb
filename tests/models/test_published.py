"""Models that timm does not have are those of their sources: size, shapes, and where their norms stand."""

import pytest
import torch
from torch import nn

from xlatrain.config.compose import compose_config
from xlatrain.models.create import check_model
from xlatrain.models.published.alexnet_bn import AlexNetBN
from xlatrain.models.published.davidnet import DavidNet


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("davidnet", 10, 6_573_120),  # counted by hand from dawn.py
        ("alexnet_bn", 1000, 60_965_224),  # as Caffe's AlexNet, whose norms have no parameters either
        ("cifar_resnet18", 10, 11_173_962),  # known of ResNet-18 with a stem for CIFAR
    ],
)
def test_a_model_has_the_parameters_of_its_source(name, classes, parameters):
    config = compose_config([f"model={name}"])[0].model
    model = check_model(config, classes, config.image_size)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_norms_of_alexnet_stand_behind_pools_and_relus():
    with torch.device("meta"):
        kinds = [type(m).__name__ for m in AlexNetBN(10).features]
    conv = ["Conv2d", "ReLU"]
    assert kinds == [
        *conv, "MaxPool2d", "BatchNorm2d", *conv, "MaxPool2d", "BatchNorm2d", *conv, "BatchNorm2d",
        *conv, "BatchNorm2d", *conv, "MaxPool2d",
    ]  # fmt: skip


def test_davidnet_pools_after_its_activation_or_before_its_norm():
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain, new = DavidNet(10, width=4), DavidNet(10, width=4, celu=0.3, pool_first=True, scale=1 / 16)
    assert [type(m) for m in plain.layer2] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert [type(m) for m in new.layer2] == [nn.Conv2d, nn.MaxPool2d, nn.BatchNorm2d, nn.CELU]
    assert plain.eval()(images).shape == new.eval()(images).shape == (2, 10)
