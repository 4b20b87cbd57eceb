"""Accumulation, reduction and low-precision sums of gradients are what they say, in whole runs."""

import math
from pathlib import Path

import pytest

from tests.nets import PLAIN, SMALL
from tests.runs import lines, losses, train

pytestmark = pytest.mark.replicas

COMMON = [
    "cluster.replicas=2",
    "augment=none",
    "ema=off",
    "optimizer.lr=0.0055",
    "schedule.warmup=6step",
    "train.duration=6step",
    "train.log_every=1step",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("gradient")


def test_micro_batches_are_the_whole_batch_for_a_model_without_batch_norm(root):
    """1e-6 relative: the mean of means, in another order of sums."""
    overrides = [*COMMON, PLAIN, "optimizer.lr=0.0011"]
    whole = train(root, "whole", *overrides)
    parts = train(root, "parts", *overrides, "gradient.accumulate=4", "gradient.bucket_mb=0.5")
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-6)
    assert all(map(math.isfinite, losses(whole)))
    assert whole["compiles"] == parts["compiles"] == {"train": 1, "eval": 1}


def test_gradients_are_reduced_then_clipped_then_applied(root):
    """The clipped mean is the same on any number of replicas; a mean of clipped parts would not be: a limit far below
    the norm makes every part as long as the mean. 1e-4 relative, as for replicas in general."""
    overrides = [*COMMON, SMALL, "gradient.clip=norm", "gradient.clip_limit=0.05"]
    overrides += ["optimizer.lr=0.5", "schedule.warmup=0step"]
    found = [losses(train(root, f"clip{n}", *overrides, f"cluster.replicas={n}")) for n in (1, 4)]
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    unclipped = losses(train(root, "free", *overrides, "gradient.clip=none"))
    assert unclipped[3] != pytest.approx(found[0][3], rel=0.01)


def test_eight_bit_sums_with_scaling_stay_near_float32_and_report_how_near(root):
    exact = [*COMMON, SMALL, "cluster.replicas=4"]
    summary = train(
        root, "aps", *exact, "gradient=e5m2_aps", "gradient.report_error=true", "gradient.fp32_last_layer=true"
    )
    assert losses(summary) == pytest.approx(losses(train(root, "fp32", *exact)), rel=0.1)
    errors = [row["gradient_error"] for row in lines(summary, "train")]
    assert all(0.01 < e < 0.3 for e in errors)  # two mantissa bits are 12 % at worst a rounding


@pytest.mark.long
def test_eight_bit_gradients_with_scaling_train_to_within_a_point_of_float32(root):
    """Four replicas, nine epochs. One point is 3.6 of the 360 images."""
    run = ["model._target_=examples.small_net.SmallNet", "optimizer.lr=0.6", "augment=none", "cluster.replicas=4"]
    run += ["train.duration=9ep", "train.eval_every=9ep"]
    exact = train(root, "full-fp32", *run)
    scaled = train(root, "full-aps", *run, "gradient=e5m2_aps")
    assert exact["top1"] > 0.95
    assert abs(scaled["top1"] - exact["top1"]) <= 0.01
    log = (Path(scaled["run"]) / "train.log").read_text()
    assert "5 exponent and 2 mantissa bits, with auto-precision scaling, summed one after the other" in log
    assert "emulated" in log
    assert "learning rate 0.6 for batch 128, 25 steps of warm-up (default), then cosine, 101 steps in all" in log
