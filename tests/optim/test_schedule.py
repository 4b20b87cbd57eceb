"""Each schedule equals its closed form at every step of a 3,000-step run, warm-up edge included."""

import math
from dataclasses import fields

import pytest

from xlatrain.config.schema import ScheduleConfig
from xlatrain.optim.schedule import SHAPES, ScheduleSpec, learning_rate_table, momentum_table

TOTAL, WARM, PEAK = 3000, 250, 0.7
POINTS = ((0, 0.1), (500, 0.9), (500, 0.3), (2000, 0.3), (2500, 0.0))


def spec(name, **more):
    defaults = {"warmup_lr": 0.1, "end_lr": 0.02, "decay_steps": 40, "milestones": (900, 1800), "points": POINTS}
    return ScheduleSpec(name, PEAK, TOTAL, WARM, **{**defaults, **more})


def test_every_shape_can_be_chosen_and_every_choice_has_one():
    (name,) = (field for field in fields(ScheduleConfig) if field.name == "name")
    assert set(name.metadata["choices"]) == set(SHAPES)


@pytest.mark.parametrize("name", ["constant", "cosine", "polynomial", "exponential", "step"])
def test_warm_up_is_linear_and_reaches_the_peak_after_its_last_step(name):
    table = learning_rate_table(spec(name))
    assert len(table) == TOTAL
    for step in range(WARM):
        assert table[step] == pytest.approx(0.1 + (PEAK - 0.1) * step / WARM, rel=1e-12)


@pytest.mark.parametrize("name", ["cosine", "polynomial"])
def test_a_curve_made_for_a_longer_run_is_cut_off(name):
    longer, cut = ScheduleSpec(name, PEAK, 2 * TOTAL, WARM), ScheduleSpec(name, PEAK, TOTAL, WARM, length=2 * TOTAL)
    assert learning_rate_table(cut) == learning_rate_table(longer)[:TOTAL]


def test_a_constant_warm_up_is_constant():
    assert set(learning_rate_table(spec("constant", warmup_shape="constant"))[:WARM]) == {0.1}


def one_cycle_form(t):
    """From the text: up in 45 % of the run, down in 45 %, then to a hundredth of the start."""
    low, half = PEAK / 10, 1350
    if t < half:
        return low + (PEAK - low) * t / half
    if t < 2 * half:
        return PEAK - (PEAK - low) * (t - half) / half
    return low * (1 - 0.99 * (t - 2 * half) / 300)


def piecewise_form(t):
    if t < 500:
        return 0.1 + 0.8 * t / 500
    if t < 2000:
        return 0.3
    return 0.3 * (2500 - t) / 500 if t < 2500 else 0.0


@pytest.mark.parametrize(
    ("name", "more", "form"),
    [
        ("constant", {}, lambda t: PEAK),
        ("cosine", {}, lambda t: 0.02 + (PEAK - 0.02) * (1 + math.cos(math.pi * (t - WARM) / (TOTAL - WARM))) / 2),
        ("cosine", {"from_start": True, "end_lr": 0.0}, lambda t: PEAK * 0.5 * (1 + math.cos(math.pi * t / TOTAL))),
        ("polynomial", {}, lambda t: 0.02 + (PEAK - 0.02) * (1 - (t - WARM) / (TOTAL - WARM)) ** 2),
        ("polynomial", {"power": 1.0}, lambda t: 0.02 + (PEAK - 0.02) * (1 - (t - WARM) / (TOTAL - WARM))),
        ("exponential", {}, lambda t: PEAK * 0.97 ** (t // 40)),
        ("step", {"decay": 0.1}, lambda t: PEAK * (1 if t < 900 else 0.1 if t < 1800 else 0.01)),
        ("onecycle", {}, one_cycle_form),
        ("piecewise", {}, piecewise_form),
    ],
)
def test_each_step_is_the_closed_form(name, more, form):
    warm = 0 if name in ("onecycle", "piecewise") else WARM
    table = learning_rate_table(ScheduleSpec(**{**spec(name, **more).__dict__, "warmup_steps": warm}))
    for step in range(warm, TOTAL):
        assert table[step] == pytest.approx(form(step), rel=1e-9, abs=1e-12), step


def test_momentum_mirrors_the_one_cycle_and_is_constant_elsewhere():
    table = momentum_table(ScheduleSpec("onecycle", PEAK, TOTAL, momentum=0.95, low_momentum=0.85))
    for t in range(TOTAL):
        expected = 0.95 if t >= 2700 else 0.95 - 0.1 * (t / 1350 if t < 1350 else (2700 - t) / 1350)
        assert table[t] == pytest.approx(expected, rel=1e-12)
    assert set(momentum_table(spec("cosine", low_momentum=0.5))) == {0.9}


def test_exponential_counts_from_step_0_as_the_reference_does():
    """Just after a 5-epoch warm-up with a factor every 2.4 epochs two factors already apply."""
    table = learning_rate_table(ScheduleSpec("exponential", 1.0, 1000, warmup_steps=500, decay_steps=240))
    assert table[500] == pytest.approx(0.97**2)


def test_a_warm_up_longer_than_the_run_only_warms_up():
    table = learning_rate_table(ScheduleSpec("cosine", 1.0, 10, warmup_steps=100))
    assert table == pytest.approx([i / 100 for i in range(10)])


def test_a_staircase_of_broken_steps_keeps_to_its_epochs():
    """2.4 epochs of 11 steps are 26.4: rounded to 26, a run of 3,000 steps would end two stairs too low."""
    table = learning_rate_table(ScheduleSpec("exponential", 1.0, 3000, decay=0.97, decay_steps=26.4))
    assert table == pytest.approx([0.97 ** math.floor(step * 10 / 264) for step in range(3000)], rel=1e-12)
    assert learning_rate_table(ScheduleSpec("exponential", 1.0, 13, decay=0.5, decay_steps=2.4 * 5))[12] == 0.5
