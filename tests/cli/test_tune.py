"""`xlatrain tune`: a curve is read right, a batch stays within memory, and wrong arguments are named."""

import functools
import importlib.util
import json
import math

import pytest
from PIL import Image

from tests.nets import SMALL
from xlatrain.cli.main import main
from xlatrain.engine import range_test
from xlatrain.engine.memory_probe import MARGIN, describe, free_memory, judge
from xlatrain.engine.range_test import explodes, growing_rates, smooth
from xlatrain.planning import batch
from xlatrain.preflight.check import check

RATES = growing_rates(1e-5, 10.0, 121)
COMPILER = all(importlib.util.find_spec(name) for name in ("jax", "libtpu"))


def valley(rate, fastest=1e-2, edge=1.0):
    """Falls around one rate, and rises beyond another."""
    return 2.3 - 1.5 / (1 + (fastest / rate) ** 2) + (rate / edge) ** 3


def test_rates_grow_by_one_factor():
    assert RATES[0] == pytest.approx(1e-5)
    assert RATES[-1] == pytest.approx(10.0)
    assert RATES[60] / RATES[59] == pytest.approx(RATES[1] / RATES[0])


def test_a_valley_is_read_where_it_is_steepest_and_lowest():
    losses = [valley(rate) for rate in RATES]
    ends = next(i for i in range(len(losses)) if explodes(losses[: i + 1]))
    curve = range_test.judge(RATES, losses[: ends + 1])
    assert curve.exploded
    assert 5e-3 < curve.fastest < 5e-2  # the average lags by some steps
    assert 0.1 < curve.lowest < 1
    assert curve.suggested == pytest.approx(min(curve.fastest, curve.lowest / 10), rel=0.05)
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed) == ends + 1


def test_nothing_is_suggested_where_the_loss_does_not_fall():
    for losses in ([2.3] * 121, [2.3 + 0.01 * i for i in range(121)], [2.3, math.nan], [math.inf]):
        curve = range_test.judge(RATES, losses)
        assert curve.suggested is None
        assert all(map(math.isfinite, curve.smoothed))


def test_a_loss_explodes_when_it_is_no_number_or_far_above_its_lowest():
    assert explodes([1.0, math.nan])
    assert not explodes([1.0, 50.0])  # one step says little
    assert explodes([*[1.0] * 20, *[30.0] * 10])
    assert smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0] * 3)


@pytest.mark.one_replica
def test_a_range_test_draws_suggests_and_compiles_once(tmp_path, monkeypatch, capfd):
    """With what a run has that a range test has not: a schedule, a head that comes first, sizes that change."""
    monkeypatch.chdir(tmp_path)
    extra = ["schedule=onecycle", "finetune.head_first=5ep", "scaling.lr_per_256=0.1", "train.duration=3ep"]
    arguments = ["tune", "lr", "steps=120", "from=0.02", "to=200", SMALL, "cluster.replicas=1", "train.global_batch=64"]
    assert main([*arguments, *extra, "--json"]) == 0
    said = capfd.readouterr()
    found = json.loads(said.out)
    assert said.err.count("compiled the train step") == 1
    assert found["rates"][0] == pytest.approx(0.02)
    assert found["suggested"] < found["lowest"]
    assert found["losses"][0] == pytest.approx(math.log(10), abs=0.3)
    assert Image.open(tmp_path / "lr.png").size[0] > 600
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tune"], ["nothing to tune", "xlatrain tune lr"]),
        (["tune", "rate"], ["tune: rate"]),
        (["tune", "lr", "steps=3"], ["steps", "50 or more"]),
        (["tune", "lr", "steps=many"], ["steps", "'many'"]),
        (["tune", "lr", "from=1", "to=0.1"], ["from", "to=0.1"]),
        (["tune", "lr", "from=-1"], ["from", "'-1'"]),
        (["tune", "lr", "out=lr.txt"], ["out", "no picture"]),
        (["tune", "lr", "out=lr.txt", "optimizer.lrr=1"], ["out", "optimizer.lrr"]),
        (["tune", "batch", "steps=100"], ["steps", "tune lr"]),
        (["tune", "batch", "train.globl_batch=1"], ["did you mean train.global_batch"]),
        (["tune", "batch", "cluster=gpu", "cluster.replicas=1"], ["cluster", "xlatrain train -m"]),
        (["tune", "batch", "cluster=tpu_v3_8", "cluster.replicas=4"], ["cluster.replicas", "cluster.replicas=8"]),
    ],
)
def test_wrong_arguments_are_named(arguments, words, capsys):
    if "cluster=tpu_v3_8" in arguments and not COMPILER:
        pytest.skip("the extra `plan` is not installed")
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said


def test_the_largest_batch_lies_on_the_line_and_divides_among_replicas():
    measured = {16: 600 << 20, 64: 648 << 20}  # 1 MiB an image
    free = int((600 + 384) / MARGIN) << 20
    found = judge(measured, free, share=8, samples=1_000_000)
    assert found.per_image == 1 << 20
    assert found.largest % 8 == 0
    assert 384 <= found.largest <= 16 + 384 + 8
    assert not found.capped
    assert "not run at that size" in describe(found)[-1]
    capped = judge(measured, 1 << 40, share=8, samples=1437)
    assert (capped.largest, capped.capped) == (1432, True)
    assert judge(measured, 1 << 20, share=8, samples=1437).largest is None
    alone = judge({8: 600 << 20}, 1 << 30, share=8, samples=1437)
    assert (alone.largest, alone.per_image) == (8, None)
    assert "a larger one was not tried" in describe(alone)[-1]
    assert "not even one image" in describe(judge(measured, 1 << 20, share=8, samples=1437))[-1]


@pytest.mark.one_replica
def test_a_batch_is_measured_on_this_machine(capfd):
    assert main(["tune", "batch", "--json", SMALL, "cluster.replicas=1", "data.image_size=64"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert 100 << 20 < min(found["measured"].values()) < free_memory()
    assert found["largest"] <= 1437


@pytest.mark.parametrize(
    ("most", "own", "largest", "capped"),
    [(1000, 64, 96, False), (100, 8, 96, False), (40, 8, 40, True), (9, 1024, 9, True)],
)
def test_the_largest_batch_of_a_tpu_is_looked_for_upwards_and_downwards(monkeypatch, most, own, largest, capped):
    """Of a compiler that takes 160 MiB an image, where 16 GiB less 1 GiB hold 96: in few compilations."""
    compiled = []

    def needed(images):
        compiled.append(images)
        return (1 << 30) + images * (160 << 20)

    monkeypatch.setattr(batch, "compiled_bytes", lambda run, names, capacity, say: functools.cache(needed))
    run = check(["data=synthetic", "cluster=tpu_v3_8", f"data.train_examples={8 * most}", "augment=none",
                 f"train.global_batch={8 * min(own, most)}"], starts=False)  # fmt: skip
    found = batch.find_largest(run, lambda text: None)
    assert largest - largest // 16 <= found.local <= largest
    assert (found.batch, found.capped, found.capacity) == (8 * found.local, capped, 16 << 30)
    assert found.needed <= found.capacity
    assert len(compiled) <= 9
