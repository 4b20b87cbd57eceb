"""Axes, points and sentences of a page, by numbers."""

from pathlib import Path

import pytest

from xlatrain.engine.spent import PLACES
from xlatrain.reporting.accuracy import levels
from xlatrain.reporting.curves import thinned
from xlatrain.reporting.limit import limit_of_run, sentences
from xlatrain.reporting.parallel import Trial, parallel_coordinates
from xlatrain.reporting.record import Record
from xlatrain.reporting.scale import all_shown, fit, shown


@pytest.mark.parametrize(
    ("values", "log_from", "ticks"),
    [
        ([0, 1], None, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ([0.001, 1000], 30, ["0.001", "0.1", "10", "1e+03"]),
        ([3.5, 3.5], None, ["2", "3", "4", "5"]),
        ([], None, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ([-2, 60000], 30, ["0", "20k", "40k", "60k"]),
    ],
)
def test_an_axis_has_round_numbers_and_holds_its_values(values, log_from, ticks):
    scale = fit(values, 0.0, 100.0, log_from)
    assert [shown(tick) for tick in scale.ticks()] == ticks
    assert all(-1e-9 <= scale(value) <= 100 + 1e-9 for value in values)


def test_thinned_points_keep_order_and_extremes():
    points = [(float(i), 100.0 if i == 777 else -9.0 if i == 778 else i / 1000) for i in range(1000)]
    kept = thinned(points, 50)
    assert len(kept) <= 50
    assert sorted(kept) == list(kept)
    assert {(777.0, 100.0), (778.0, -9.0)} <= set(kept)
    assert thinned(points[:50], 50) == tuple(points[:50])


@pytest.mark.parametrize(
    ("place", "options", "option"),
    [
        ("data", {"data.root": "gs://b/x", "data.cache": None, "data.workers": 4}, "data.cache=FOLDER"),
        ("data", {"data.root": "gs://b/x", "data.cache": "/tmp/c", "data.workers": 4}, "data.workers=8"),
        ("data", {}, ""),
        ("device", {"cluster.platform": "tpu", "precision.name": "fp32"}, "precision=bf16"),
        ("device", {"cluster.platform": "tpu", "precision.name": "bf16"}, "cluster"),
        ("host", {"engine.replay": True, "train.log_every": "1step"}, "train.log_every=10step"),
        ("host", {"engine.in_flight": 1, "cluster.platform": "tpu"}, "engine.in_flight=2"),
        ("host", {"engine.in_flight": 1, "cluster.platform": "cpu", "train.global_batch": 8}, "train.global_batch"),
        ("compile", {"engine.runtime": "torch_xla"}, "engine.runtime=jax"),
        ("compile", {"engine.runtime": "jax"}, "train.duration"),
        ("evaluation", {"train.eval_every": "1ep"}, "train.eval_every"),
        ("saving", {}, "checkpoint.every"),
        ("starting", {}, "train.duration"),
    ],
)
def test_each_limit_has_its_option(place, options, option):
    spent = dict.fromkeys(PLACES, 1.0) | {place: 9.0}
    limit = limit_of_run(spent, options)
    assert (limit.place, limit.option, limit.share) == (place, option, 0.6)
    told = sentences(spent, options)
    assert len(told) == (1 if place in ("data", "device", "host") else 2)
    assert all(text.endswith(".") and "`." not in text for text in told)


def test_a_run_that_took_no_step_and_one_without_times_are_limited_by_nothing_there():
    assert sentences({}, {}) == []
    (text,) = sentences(dict.fromkeys(PLACES, 0.0) | {"starting": 3.0}, {})
    assert text.startswith("Of the whole run most went into starting the replicas, 100%.")


def test_lines_of_jobs_cross_axes_of_numbers_ladders_and_words():
    trials = [Trial("a", ("0.1", "sgd", "0.5")), Trial("b", ("10", "lars", "0.7"), best=True)]
    trials.append(Trial("c", ("1", "sgd", None)))
    drawing = parallel_coordinates(["lr", "optimizer", "top1"], trials)
    assert drawing.count("<title>") == 2
    assert parallel_coordinates(["lr", "top1"], trials[:1]) == ""
    assert parallel_coordinates(["top1"], [Trial("a", ("nan",)), Trial("b", ("1",))]) == ""
    assert "nan" in parallel_coordinates(["x", "y"], [Trial("a", ("nan", "1")), Trial("b", ("1", "1"))])


def test_no_accuracy_is_a_row_where_none_was_reached():
    assert levels([]) == []


def test_values_beside_an_axis_can_be_told_apart_and_are_short():
    assert all_shown([2.305, 2.31, 2.315]) == ["2.305", "2.31", "2.315"]
    assert all_shown([0.0, 0.1]) == ["0", "0.1"]
    assert [shown(value) for value in (2e28, 3e6, 12_000, 1e-6)] == ["2e+28", "3M", "12k", "1e-06"]


def test_a_goal_is_a_row_also_where_it_was_not_reached():
    def ended(until):
        options = {"train.until": until}
        return Record("a", Path(), "done", "", 9, {}, options, {}, [], [{"top1": 0.72}], [], 0, {})

    assert 0.83 in levels([ended("top1>=0.83")])
    assert levels([ended("loss<0.83")]) == levels([ended(None)])
