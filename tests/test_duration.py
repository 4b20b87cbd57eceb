"""Durations mean what they say, and what is no duration is refused."""

import pytest

from xlatrain.duration import Duration, parse_duration
from xlatrain.lengths import Lengths, Phase, exact_steps


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


def run(*phases, total=3000):
    return Lengths(phases, total, parse_duration("10step"), parse_duration("5ep"))


def test_conversion_to_steps_rounds_to_the_nearest():
    lengths = run(Phase(0, 0, 312, 4096, 32))
    assert lengths.steps(parse_duration("2.4ep")) == round(2.4 * 312)
    assert lengths.steps(parse_duration("1.28Mexample")) == 312  # 312.5, to even
    assert lengths.steps(parse_duration("5%")) == 150
    assert lengths.steps(parse_duration("7step")) == 7


def test_a_percentage_needs_a_whole():
    with pytest.raises(ValueError, match="part of"):
        exact_steps((Phase(0, 0, 312, 4096, 32),), Duration(5, "%"))


def test_epochs_and_steps_are_inverse_where_the_batch_changes():
    """Two epochs of 10 steps, three of 4, then 20 a step: a duration in epochs is not a number of steps times it."""
    lengths = run(Phase(0, 0, 10, 100, 8), Phase(2, 20, 4, 250, 8), Phase(5, 32, 20, 50, 8), total=92)
    for epochs, steps in ((0.5, 5), (2, 20), (3, 24), (5, 32), (6.5, 62)):
        assert lengths.steps(parse_duration(f"{epochs}ep")) == steps
        assert lengths.epoch(steps) == pytest.approx(epochs)
        assert lengths.steps(parse_duration(f"{epochs}kexample")) == steps  # 1,000 images an epoch
    assert [lengths.phase_number(s) for s in (0, 19, 20, 31, 32)] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(("every", "steps"), [("2ep", [20, 28, 52, 92]), ("40step", [40, 80, 92]), ("50%", [46, 92])])
def test_what_recurs_does_so_by_epochs_or_steps_and_at_the_end(every, steps):
    lengths = run(Phase(0, 0, 10, 100, 8), Phase(2, 20, 4, 250, 8), Phase(5, 32, 20, 50, 8), total=92)
    assert [s for s in range(1, 93) if lengths.due(parse_duration(every), s)] == steps
