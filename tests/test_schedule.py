"""Each schedule equals its closed form at every step, warm-up edge included."""

import math

import pytest

from xlatrain.optim.schedule import ScheduleSpec, learning_rate_table

TOTAL, WARM, PEAK = 3000, 250, 0.7


def spec(name, **more):
    return ScheduleSpec(name, PEAK, TOTAL, WARM, **{"warmup_lr": 0.1, "end_lr": 0.02, "decay_steps": 40, **more})


@pytest.mark.parametrize("name", ["constant", "cosine", "polynomial", "exponential"])
def test_warm_up_is_linear_and_reaches_the_peak_after_its_last_step(name):
    table = learning_rate_table(spec(name))
    assert len(table) == TOTAL
    for step in range(WARM):
        assert table[step] == pytest.approx(0.1 + (PEAK - 0.1) * step / WARM, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("constant", lambda t: PEAK),
        ("cosine", lambda t: 0.02 + (PEAK - 0.02) * (1 + math.cos(math.pi * (t - WARM) / (TOTAL - WARM))) / 2),
        ("polynomial", lambda t: 0.02 + (PEAK - 0.02) * (1 - (t - WARM) / (TOTAL - WARM)) ** 2),
        ("exponential", lambda t: PEAK * 0.97 ** (t // 40)),
    ],
)
def test_after_the_warm_up_each_step_is_the_closed_form(name, form):
    table = learning_rate_table(spec(name))
    for step in range(WARM, TOTAL):
        assert table[step] == pytest.approx(form(step), rel=1e-12)


def test_exponential_counts_from_step_0_as_the_reference_does():
    """Just after a 5-epoch warm-up with a factor every 2.4 epochs two factors already apply."""
    table = learning_rate_table(ScheduleSpec("exponential", 1.0, 1000, warmup_steps=500, decay_steps=240))
    assert table[500] == pytest.approx(0.97**2)


def test_a_warm_up_longer_than_the_run_only_warms_up():
    table = learning_rate_table(ScheduleSpec("cosine", 1.0, 10, warmup_steps=100))
    assert table == pytest.approx([i / 100 for i in range(10)])
