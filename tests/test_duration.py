"""Durations mean what they say, and what is no duration is refused."""

import pytest

from xlatrain.duration import Duration, parse_duration


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("90ep", 90, "ep"),
        ("1000step", 1000, "step"),
        ("5%", 5, "%"),
        ("1.28Mexample", 1_280_000, "example"),
        ("2.5 ep", 2.5, "ep"),
        ("10kstep", 10_000, "step"),
        (".5ep", 0.5, "ep"),
    ],
)
def test_every_form_is_read(text, amount, unit):
    parsed = parse_duration(text)
    assert parsed.amount == pytest.approx(amount)
    assert parsed.unit == unit


@pytest.mark.parametrize("text", ["", "20", "20epochs", "ep", "-5ep", "5k%", "1e3step", "20 steps", "nanep"])
def test_anything_else_is_refused_with_the_forms_allowed(text):
    with pytest.raises(ValueError, match=r"20ep|takes no k"):
        parse_duration(text)


def test_conversion_to_steps_rounds_to_the_nearest():
    assert parse_duration("2.4ep").steps(312, 4096) == round(2.4 * 312)
    assert parse_duration("1.28Mexample").steps(312, 4096) == 312  # 312.5, to even
    assert parse_duration("5%").steps(312, 4096, total_steps=3000) == 150
    assert parse_duration("7step").steps(312, 4096) == 7


def test_a_percentage_needs_a_whole():
    with pytest.raises(ValueError, match="part of"):
        Duration(5, "%").steps(312, 4096)
