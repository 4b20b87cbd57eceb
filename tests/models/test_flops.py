"""Operations are counted as published."""

import pytest

from xlatrain.models.flops import depthwise_modules, train_flops


@pytest.mark.slow
def test_flops_are_those_of_the_model_not_of_its_form():
    """0.386 and 1.81 billion multiply-adds forward, as published; times two, and times three for training."""
    import timm

    for name, macs in (("efficientnet_b0", 0.386e9), ("resnet18", 1.814e9)):
        assert train_flops(timm.create_model(name), 224) == pytest.approx(6 * macs, rel=0.02)
    names = depthwise_modules(timm.create_model("efficientnet_b0"))
    assert "blocks.0.0.conv_dw" in names
    assert len(names) == 16
