"""Words for parts of a model: stages of timm's models, modules by name, the head."""

import pytest
import timm
import torch
from torch import nn

from tests.nets import Small
from xlatrain.models.classifier import convert_classifier, head_names
from xlatrain.models.layers import find_frozen, layer_scales, stages


def blank(name, **arguments):
    with torch.device("meta"):
        return timm.create_model(name, num_classes=10, **arguments)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("test_efficientnet", {"classifier.weight", "classifier.bias"}),
        ("test_resnet", {"fc.weight", "fc.bias"}),
        ("test_vit", {"head.weight", "head.bias"}),
        ("deit_tiny_distilled_patch16_224", {f"{h}.{n}" for h in ("head", "head_dist") for n in ("weight", "bias")}),
    ],
)
def test_the_head_is_what_timm_calls_the_classifier(name, head):
    model = blank(name)
    assert head_names(model) == head
    convert_classifier(model)
    assert head_names(model) == head


def test_the_head_of_a_model_of_ones_own_is_its_last_linear_layer():
    assert head_names(Small(10)) == {"head.weight", "head.bias"}
    assert head_names(nn.Conv2d(3, 3, 1)) == set()


def test_stages_cover_the_body_once_in_order():
    found = stages(blank("test_efficientnet"))
    assert found["stem"] == {"conv_stem.weight", "bn1.weight", "bn1.bias"}
    assert all(name.startswith("blocks.0.") for name in found["stage1"])
    parts = [names for word, names in found.items() if word != "body"]
    assert sum(map(len, parts)) == len(found["body"]) == len(set.union(*parts))
    assert set(stages(Small(10))) == {"body"}


def test_words_are_modules_stages_and_parameters():
    model = blank("test_efficientnet")
    frozen = find_frozen(model, ["stem", "blocks.0", "conv_head.weight"])
    assert frozen.parameters == {
        name for name, _ in model.named_parameters() if name.startswith(("conv_stem.", "bn1.", "blocks.0."))
    } | {"conv_head.weight"}
    norms = {name for name, module in model.named_modules() if hasattr(module, "running_mean")}
    assert frozen.norms == {name for name in norms if name.startswith(("bn1", "blocks.0."))}
    assert find_frozen(model, []).parameters == frozenset()
    assert "bn1" not in find_frozen(model, ["bn1.weight"]).norms  # its bias moves


def test_a_norm_without_parameters_stays_by_its_name():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False), nn.Linear(4, 2))
    assert find_frozen(model, ["1"]).norms == {"1"}
    assert find_frozen(model, ["0"]).norms == frozenset()


def test_a_parameter_of_several_names_stays_by_any_of_them():
    first = nn.Linear(2, 2, bias=False)
    assert find_frozen(nn.Sequential(first, first, nn.Linear(2, 2)), ["1"]).parameters == {"0.weight"}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["blocks.9"], "'blocks.9'; the nearest are blocks."),
        (["stag1"], "stage1"),
        (["zzzzzzzz"], "it has body, stem, stage1"),
        (["global_pool"], "no parameters that could stay"),
    ],
)
def test_words_for_nothing_are_refused_with_the_nearest(words, problem):
    with pytest.raises(ValueError, match=problem.replace(".", r"\.")):
        find_frozen(blank("test_efficientnet"), words)


def test_a_model_without_layers_has_no_layer_wise_rates():
    with pytest.raises(ValueError, match="one layer"):
        layer_scales(Small(10), 0.7)
