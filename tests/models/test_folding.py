"""Folded images give what plain ones give."""

import copy

import pytest
import timm
import torch

from tests.nets import Mobile, Small
from xlatrain.models.batch_norm import convert_batch_norm
from xlatrain.models.folding.choose import choose_folds
from xlatrain.models.folding.fold import fold_layers
from xlatrain.models.folding.geometry import Axis, Layout, Window
from xlatrain.models.folding.layers import Refold
from xlatrain.xla.launch import launch


class First(torch.nn.Module):
    """The first four stages of a model: what comes after them never sees a fold."""

    def __init__(self, name):
        super().__init__()
        torch.manual_seed(0)
        model = timm.create_model(name, drop_rate=0.0, drop_path_rate=0.0, num_classes=7)
        self.conv_stem, self.bn1, self.blocks = model.conv_stem, model.bn1, model.blocks[:4]

    def forward(self, x):
        return self.blocks(self.bn1(self.conv_stem(x)))


def results(model, x, weight):
    names, parameters = zip(*model.named_parameters(), strict=True)
    y = model(x)
    gradients = torch.autograd.grad((y * weight[: y.numel()].view(y.shape)).sum(), [x, *parameters])
    statistics = {name: tensor for name, tensor in model.named_buffers() if tensor.is_floating_point()}
    return {"y": y, "x": gradients[0]}, dict(zip(names, gradients[1:], strict=True)), statistics


def pair(plain, size, **options):
    """A model and the same folded, both in float64."""
    convert_batch_norm(plain.double(), [[0]], 1)
    folded = copy.deepcopy(plain)
    fold_layers(folded, choose_folds(folded, size, **options), size)
    assert [*folded.state_dict()] == [*plain.state_dict()]
    assert all(a.shape == b.shape for a, b in zip(folded.parameters(), plain.parameters(), strict=True))
    return plain, folded


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"), [("efficientnet_b2", 64), ("efficientnet_b2", 70), ("efficientnet_b4", 62)]
)
def test_results_gradients_and_statistics_are_those_of_plain_images(name, size):
    """float64, 1e-12 of the largest value of the kind, through eleven to fifteen blocks. Sizes that folds of 2 x 2 and
    2 x 4 divide, and such that they do not divide at any stage; blocks of each kind are in groups and moved. Evaluation
    too, with the statistics of the step."""
    plain, folded = pair(First(name), size, always=True)
    x = torch.randn(2, 3, size, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(200_000, dtype=torch.float64)
    for expected, found in zip(results(plain.train(), x, weight), results(folded.train(), x, weight), strict=True):
        largest = max(value.abs().max().item() for value in expected.values())
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=1e-12 * max(1.0, largest), msg=key)
    with torch.no_grad():
        expected, found = plain.eval()(x), folded.eval()(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * expected.abs().max().item())


def test_a_variance_that_one_pass_loses_is_computed_again():
    """A mean of a million deviations: sums of squares alone would leave the variance no digit."""
    plain, folded = pair(Mobile(5), 32, always=True)
    for model in (plain, folded):
        model.bn1.running_mean.fill_(-1e6)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    plain.train()(x), folded.train()(x)
    torch.testing.assert_close(folded.bn1.running_var, plain.bn1.running_var, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("size", "before", "after"),
    [(7, (2, 0), (2, -1)), (8, (2, 0), (4, 0)), (65, (1, 0), (4, -3)), (65, (4, 0), (1, 0)), (5, (2, -1), (2, 0))],
)
def test_what_is_folded_in_another_way_is_the_same_image(size, before, after):
    layouts = [Layout(Axis(size, *how), Axis(size, *how), 3) for how in (before, after)]
    plain = Layout(Axis(size), Axis(size), 3)
    x = torch.randn(2, 3, size, size)
    y = Refold(*layouts)(Refold(plain, layouts[0], enters=True)(x))
    assert y.shape == (2, layouts[1].rows.folds, layouts[1].columns.folds, 3 * after[0] ** 2)
    assert torch.equal(Refold(layouts[1], plain, leaves=True)(y), x)
    inside = layouts[1].inside(None)
    assert inside is None or not y[:, ~inside].any()


def test_folds_that_do_not_go_into_each_other_are_refused():
    with pytest.raises(ValueError, match="folds of 3 pixels do not go into 2"):
        Window.between(Axis(12, 3), Axis(12, 2))


def test_the_rule_is_for_efficientnets_and_leaves_small_images_alone():
    with torch.device("meta"):
        b0, other = timm.create_model("efficientnet_b0"), timm.create_model("resnet10t")
    assert choose_folds(other, 224) is choose_folds(Small(5), 32) is None
    folds = choose_folds(b0, 224)
    assert [*folds.blocks] == ["blocks.0.0", "blocks.1.0", "blocks.1.1", "blocks.2.1"]
    loud = Mobile(5)
    loud.blocks[0][0].bn1.act = torch.nn.Sigmoid()  # of 0 it makes 1/2, beyond the image too
    assert choose_folds(loud, 32) is None


@pytest.mark.replicas
def test_eight_replicas_with_shared_batch_norm_are_as_they_are_without_folds():
    """float32, 1e-4 of a tensor's largest value after a step; 22 pixels, which no fold divides; groups of 4."""
    for replica in launch("tests.replica_jobs:run_folded", 22, 4, 1, replicas=8):
        for name, expected in replica[False].items():
            gap = (replica[True][name] - expected).abs().max() / expected.abs().max().clamp_min(1e-3)
            assert gap < 1e-4, name
