"""Clipping, accumulation and low-precision sums of gradients are what they say."""

import itertools
import math
from pathlib import Path

import pytest
import timm.utils
import torch

from tests.engine.test_run import losses, train
from tests.optim.test_optim import SHAPES, fixed_tensors, layout
from xlatrain.engine.augment import (
    QUANTILES,
    beta_quantiles,
    cutmix,
    draw_beta,
    mixed_cross_entropy,
    mixup,
    random_erase,
)
from xlatrain.optim.clip import clip_adaptive, clip_norm, clip_value


def parameters(scale):
    params = {n: torch.nn.Parameter(t) for n, t in fixed_tensors(0).items()}
    for param, grad in zip(params.values(), fixed_tensors(1).values(), strict=True):
        param.grad = grad * scale
    return params


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 100.0])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p, g: clip_value(g, 0.5), lambda ps: torch.nn.utils.clip_grad_value_(ps, 0.5)),
        (lambda p, g: clip_norm(g, 2.0), lambda ps: torch.nn.utils.clip_grad_norm_(ps, 2.0)),
        (lambda p, g: clip_adaptive(p, g, 0.02, layout()), lambda ps: timm.utils.adaptive_clip_grad(ps, 0.02)),
    ],
    ids=["value", "norm", "agc"],
)
def test_clipping_equals_torchs_and_timms(ours, theirs, scale):
    params, where = parameters(scale), layout()
    found = where.unpack(ours(where.pack(params), where.pack({n: p.grad for n, p in params.items()})))
    theirs(list(params.values()))
    for name in SHAPES:
        torch.testing.assert_close(found[name], params[name].grad, rtol=1e-5, atol=1e-7)


def published_agc(weight, grad, limit):
    """Equation 3 of arXiv:2102.06171 in float64, an output channel a unit: [O, ...] or [n]."""
    axes = tuple(range(1, grad.ndim)) or (0,)
    weight, grad = weight.double(), grad.double()
    largest = limit * weight.square().sum(axes, keepdim=True).sqrt().clamp_min(1e-3)
    length = grad.square().sum(axes, keepdim=True).sqrt()
    return torch.where(length > largest, grad * largest / length, grad)


SCALES = [1e-30, 1e-20, 1e-3, 1.0, 1e10, 1e20, 1e30]


@pytest.mark.parametrize(("weight_scale", "grad_scale"), list(itertools.product(SCALES, [0.0, *SCALES, 5e37])))
def test_adaptive_clipping_is_the_papers_wherever_float32_holds_its_numbers(weight_scale, grad_scale):
    """Squares of 1e20 are infinite in float32 and those of 1e-24 are zero; of 5e37 even the norms are infinite. A limit
    of 1e-27 clips gradients of 1e-29. Within a tensor a unit is 1e-15 times as large as the others: it has a scale of
    its own."""
    where = layout()
    weights, grads = (
        {n: t.clamp(-3, 3) * s for n, t in fixed_tensors(i).items()} for i, s in enumerate((weight_scale, grad_scale))
    )
    for tensors in (weights, grads):
        tensors["wide"][7] *= 1e-15
    for limit in (0.02, 1e-27, 0.0):
        found = where.unpack(clip_adaptive(where.pack(weights), where.pack(grads), limit, where))
        for name, grad in grads.items():
            expected = published_agc(weights[name], grad, limit)
            torch.testing.assert_close(found[name].double(), expected, rtol=2e-6, atol=1e-44)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_adaptive_clipping_hides_no_gradient_that_is_not_finite(value):
    """The unit that holds it stays as it was; the others are clipped."""
    where, weights, grads = layout(), fixed_tensors(0), fixed_tensors(1)
    clean = clip_adaptive(where.pack(weights), where.pack(grads), 0.02, where)
    grads["conv"][2, 1, 0, 0] = value
    found = where.unpack(clip_adaptive(where.pack(weights), where.pack(grads), 0.02, where))
    torch.testing.assert_close(found["conv"][2], grads["conv"][2], rtol=0, atol=0, equal_nan=True)
    for name, expected in where.unpack(clean).items():
        same = torch.arange(len(expected)) != (2 if name == "conv" else -1)
        assert torch.equal(found[name][same], expected[same])


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_numbers_are_drawn_from_beta(alpha):
    torch.manual_seed(0)
    quantiles = beta_quantiles(alpha)
    assert len(quantiles) == QUANTILES
    drawn = draw_beta(200_000, quantiles).double()
    assert drawn.mean().item() == pytest.approx(0.5, abs=3e-3)
    assert drawn.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-2)


def test_mixup_blends_images_and_labels_alike():
    images, share = torch.randn(6, 3, 4, 4), torch.tensor([0.1, 0.5, 0.9, 0.3, 0.7, 1.0])
    mixed, kept = mixup(images, images.flip(0), share)
    assert kept.tolist() == pytest.approx([0.9, 0.5, 0.9, 0.7, 0.7, 1.0])
    torch.testing.assert_close(mixed[0], 0.9 * images[0] + 0.1 * images[5])
    logits, labels = torch.randn(6, 5), torch.arange(6) % 5
    one_hot = torch.nn.functional.one_hot(labels, 5).float()
    target = kept[:, None] * one_hot + (1 - kept[:, None]) * one_hot.flip(0)
    expected = torch.nn.functional.cross_entropy(logits, target, label_smoothing=0.1)
    torch.testing.assert_close(mixed_cross_entropy(logits, labels, kept, 0.1), expected)


def test_cutmix_counts_the_pixels_it_pastes():
    torch.manual_seed(1)
    images = torch.zeros(300, 1, 16, 16)
    partner = torch.ones_like(images)
    mixed, kept = cutmix(images, partner, torch.rand(300))
    torch.testing.assert_close(1.0 - mixed.mean((1, 2, 3)), kept)
    assert 0.3 < kept.mean().item() < 0.8


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


@pytest.mark.replicas
def test_random_erasing_fills_boxes_of_the_papers_sizes_and_nothing_else():
    torch.manual_seed(0)
    images = torch.full((4000, 3, 24, 32), 9.0)
    erased = random_erase(images, 0.25)
    touched = (erased != images).all(1)
    hit = touched.flatten(1).any(1)
    assert hit.float().mean() == pytest.approx(0.25, abs=0.03)
    share = touched[hit].float().mean((1, 2))
    assert 0.01 < share.min() < 0.04
    assert 0.25 < share.max() < 0.36
    rows, columns = touched.any(2).sum(1), touched.any(1).sum(1)
    assert torch.equal(rows * columns, touched.flatten(1).sum(1))  # a box, not a cloud
    assert erased[touched[:, None].expand_as(erased)].std() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(random_erase(images, 0.0), images)


def test_micro_batches_are_the_whole_batch_for_a_model_without_batch_norm(root):
    """1e-6 relative: the mean of means, in another order of sums."""
    overrides = [*COMMON, "model.name=test_vit", "optimizer.lr=0.0011"]
    whole = losses(train(root, "whole", *overrides))
    parts = train(root, "parts", *overrides, "gradient.accumulate=4", "gradient.bucket_mb=0.5")
    assert losses(parts) == pytest.approx(whole, rel=1e-6)
    assert parts["compiles"] == {"train": 1, "eval": 1}


@pytest.mark.replicas
def test_gradients_are_reduced_then_clipped_then_applied(root):
    """The clipped mean is the same on any number of replicas; a mean of clipped parts would not be: a limit far below
    the norm makes every part as long as the mean. 1e-4 relative, as for replicas in general."""
    overrides = [*COMMON, "gradient.clip=norm", "gradient.clip_limit=0.05", "optimizer.lr=0.5", "schedule.warmup=0step"]
    found = [losses(train(root, f"clip{n}", *overrides, f"cluster.replicas={n}")) for n in (1, 4)]
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    unclipped = losses(train(root, "free", *overrides, "gradient.clip=none"))
    assert unclipped[3] != pytest.approx(found[0][3], rel=0.01)


@pytest.mark.replicas
def test_eight_bit_sums_with_scaling_stay_near_float32_and_report_how_near(root):
    overrides = [*COMMON, "gradient=e5m2_aps", "gradient.report_error=true", "gradient.fp32_last_layer=true"]
    summary = train(root, "aps", *overrides, "cluster.replicas=4")
    assert losses(summary) == pytest.approx(losses(train(root, "fp32", *COMMON, "cluster.replicas=4")), rel=0.1)
    from tests.engine.test_run import lines

    errors = [row["gradient_error"] for row in lines(summary, "train")]
    assert all(0.01 < e < 0.3 for e in errors)  # two mantissa bits are 12 % at worst a rounding


@pytest.mark.replicas
def test_eight_bit_gradients_with_scaling_train_to_within_a_point_of_float32(root):
    """Eight replicas, the default run in full. One point is 3.6 of the 360 images."""
    exact = train(root, "full-fp32")
    scaled = train(root, "full-aps", "gradient=e5m2_aps")
    assert exact["top1"] > 0.97
    assert abs(scaled["top1"] - exact["top1"]) <= 0.01
    log = (Path(scaled["run"]) / "train.log").read_text()
    assert "5 exponent and 2 mantissa bits, with auto-precision scaling, summed one after the other" in log
    assert "emulated" in log
    assert "learning rate 0.05 for batch 128, 56 steps of warm-up (default), then cosine, 224 steps in all" in log
