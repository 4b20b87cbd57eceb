"""Layers on [N, H, W, C] are those of PyTorch: outputs, gradients, and the names of a model's weights."""

import copy

import pytest
import timm
import torch
from torch import nn

from tests.replica_jobs import convolution_case, plain_convolution
from xlatrain.models.batch_norm import convert_batch_norm
from xlatrain.models.channels_last.convert import can_be_channels_last, convert_channels_last
from xlatrain.models.channels_last.layers import ChannelsLastConv2d
from xlatrain.xla.launch import launch

# In, out, kernel, stride, padding, dilation, groups, bias; height and width of the image.
DEPTHWISE = [
    (6, 6, kernel, stride, kernel // 2, dilation, 6, dilation == 1, size)
    for kernel in (3, 5, 7)
    for stride in (1, 2, 3)
    for dilation in (1, 2)
    for size in ((9, 12), (13, 13))
]
DENSE = [
    (3, 8, 3, 2, 1, 1, 1, False, (9, 12)),
    (4, 5, 3, 1, 1, 1, 1, True, (7, 8)),
    (3, 6, 7, 2, 3, 1, 1, False, (16, 15)),
    (4, 4, 3, 1, 2, 2, 1, False, (8, 9)),
    (5, 7, 1, 2, 0, 1, 1, False, (5, 6)),
    (6, 6, 5, 2, 2, 1, 6, False, (9, 8)),
]


@pytest.mark.parametrize("case", DEPTHWISE + DENSE, ids=str)
def test_a_convolution_and_its_gradients(case):
    """To the rounding of float64, of sums of up to 49 and 338 terms."""
    conv, x, target = convolution_case(case, torch.float64)
    inputs = [x.clone().requires_grad_(), conv.weight]
    y = ChannelsLastConv2d(conv, first=True)(inputs[0])
    found = [y, *torch.autograd.grad((y * target).sum(), inputs)]
    for ours, theirs in zip(found, plain_convolution(case), strict=True):
        assert (ours - theirs).abs().max() < 1e-12


@pytest.mark.one_replica
def test_convolutions_as_xla_computes_them():
    """float64 to 1e-12; bf16 autocast to the resolution of its operands and results, 2^-8 each of a tensor's largest
    value, and of the gradient that comes in."""
    found = launch("tests.replica_jobs:run_channels_last", DENSE)
    for case in DENSE:
        plain = plain_convolution(case)
        for ours, theirs in zip(found["float64"][case], plain, strict=True):
            assert (ours - theirs).abs().max() < 1e-12, case
        for ours, theirs in zip(found["bf16"][case], plain, strict=True):
            assert (ours.double() - theirs).abs().max() < 2**-5 * theirs.abs().max(), case


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "efficientnet_lite0"])
def test_a_model_keeps_its_names_and_its_answers(name):
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=7).eval()
    for norm in (m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    last = copy.deepcopy(plain)
    assert can_be_channels_last(last)
    convert_batch_norm(last, None, 1)
    convert_channels_last(last)
    last.eval()
    assert [(n, t.shape) for n, t in last.state_dict().items()] == [(n, t.shape) for n, t in plain.state_dict().items()]
    images = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        assert torch.allclose(last(images), plain(images), rtol=1e-4, atol=1e-5)


def test_a_model_of_another_kind_stays_as_it_is():
    assert not can_be_channels_last(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()))
