"""Durations mean what they say, and what is no duration is refused."""

import pytest

from xlatrain.preflight.check import check
from xlatrain.preflight.lengths import Duration, Lengths, Phase, exact_steps, parse_duration


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


def run(samples, *phases, total=3000):
    return Lengths(samples, phases, total, parse_duration("10step"), parse_duration("5ep"))


@pytest.mark.parametrize(
    ("batch", "steps", "warmup", "evaluations"),
    [(65_536, 6_842, 97, 70), (32_768, 13_684, 195, 70), (2_048, 218_949, 3_127, 70)],
)
def test_epochs_of_imagenet_are_the_steps_of_the_tpu_code(batch, steps, warmup, evaluations):
    """Their steps an epoch are 1,281,167 / batch, not rounded; train_steps (218,949 by default, for 2,048) and the
    warm-up are int() of it times epochs, the staircase goes down every 2.4 times it."""
    overrides = ["data=synthetic", "schedule=exponential", f"train.global_batch={batch}", "train.duration=350ep"]
    plan = check(overrides)
    assert plan.schedule.total_steps == plan.lengths.total_steps == steps == int(350 * 1_281_167 / batch)
    assert plan.schedule.warmup_steps == warmup == int(5 * 1_281_167 / batch)
    assert plan.schedule.decay_steps == pytest.approx(2.4 * 1_281_167 / batch, rel=1e-12)
    assert plan.lengths.epoch(steps) == pytest.approx(steps * batch / 1_281_167, rel=1e-12)
    assert plan.lengths.evaluations() == evaluations


def test_conversion_to_steps_rounds_down_once_at_the_end():
    lengths = run(1_281_167, Phase(0, 4096, 32))
    assert lengths.steps(parse_duration("2.4ep")) == 750  # 750.68; 2.4 whole epochs of 312 would be 748
    assert lengths.steps(parse_duration("1.28Mexample")) == 312  # 312.5
    assert lengths.steps(parse_duration("5%")) == 150
    assert lengths.steps(parse_duration("7step")) == 7
    assert run(50, Phase(0, 10, 32)).steps(parse_duration("2.4ep")) == 12  # 11.999… in floating point


def test_a_percentage_needs_a_whole():
    with pytest.raises(ValueError, match="part of"):
        exact_steps(1000, (Phase(0, 4096, 32),), Duration(5, "%"))


def test_epochs_and_steps_are_inverse_where_the_batch_changes():
    """Two epochs of 10 steps, three of 4, then 20 a step: a duration in epochs is not a number of steps times it."""
    lengths = run(1000, Phase(0, 100, 8), Phase(20, 250, 8), Phase(32, 50, 8), total=92)
    for epochs, steps in ((0.5, 5), (2, 20), (3, 24), (5, 32), (6.5, 62)):
        assert lengths.steps(parse_duration(f"{epochs}ep")) == steps
        assert lengths.epoch(steps) == pytest.approx(epochs)
        assert lengths.steps(parse_duration(f"{epochs}kexample")) == steps  # 1,000 images an epoch
    assert [lengths.phase_number(s) for s in (0, 19, 20, 31, 32)] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(("every", "steps"), [("2ep", [20, 28, 52, 92]), ("40step", [40, 80, 92]), ("50%", [46, 92])])
def test_what_recurs_does_so_by_epochs_or_steps_and_at_the_end(every, steps):
    lengths = run(1000, Phase(0, 100, 8), Phase(20, 250, 8), Phase(32, 50, 8), total=92)
    assert [s for s in range(1, 93) if lengths.due(parse_duration(every), s)] == steps


def test_what_a_phase_leaves_of_an_epoch_is_not_lost():
    """13.5 steps of 100 and 27 of 50 an epoch: the first phase ends at step 13, and its last half step falls to the
    next: the run ends with the images of two epochs, but for less than a step."""
    sizes = "augment.sizes=[{until: 1ep, size: 8, batch: 100}, {size: 8}]"
    overrides = ["data=synthetic", "data.train_examples=1350", "cluster.replicas=2", "train.global_batch=54", sizes]
    lengths = check([*overrides, "train.duration=2ep"]).lengths
    assert [p.first_step for p in lengths.phases] == [0, 13]
    assert lengths.total_steps == 13 + (2 * 1350 - 13 * 100) // 54
    assert lengths.epoch(13) == pytest.approx(1300 / 1350)
    assert [s for s in range(1, lengths.total_steps + 1) if lengths.due(parse_duration("1ep"), s)] == [14, 38]
