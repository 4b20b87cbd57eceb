"""Scaling rules carry the published settings from one batch to another."""

import pytest

from xlatrain.optim.scaling import RULES, scale


@pytest.mark.parametrize(
    ("rule", "batch", "base", "expected"),
    [
        ("linear", 8192, (256, 0.1, 5.0), (3.2, 5.0)),  # Goyal et al.: 0.1 per 256 is 3.2 at 8,192
        ("linear", 4096, (256, 0.016, 5.0), (0.256, 5.0)),  # EfficientNet, tensorflow/tpu issue 509
        ("sqrt", 32768, (512, 0.005, 0.3125), (0.04, 0.3125)),
        ("legw", 32768, (512, 0.005, 0.3125), (0.04, 20.0)),  # LAMB's untuned table, both ends (recalled)
        ("legw", 32768, (1024, 2**2.5, 0.3125), (2**5.0, 10.0)),  # LEGW's ResNet-50 table, both ends (recalled)
        ("none", 32768, (512, 0.005, 0.3125), (0.005, 0.3125)),
    ],
)
def test_a_rule_reproduces_both_ends_of_its_table(rule, batch, base, expected):
    assert scale(rule, batch, *base) == pytest.approx(expected)


@pytest.mark.parametrize("rule", RULES)
def test_the_base_batch_is_left_as_it_is(rule):
    assert scale(rule, 512, 512, 0.3, 2.0) == (0.3, 2.0)
