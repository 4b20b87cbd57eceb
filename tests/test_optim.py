"""Optimizers over flat parameters follow torch's and timm's step for step."""

import itertools

import pytest
import timm.optim
import torch

from xlatrain.config import LARSConfig, RMSpropTFConfig, SGDConfig
from xlatrain.layout import LANES, Layout
from xlatrain.optim import build_optimizer
from xlatrain.optim.lars import trust_ratio
from xlatrain.optim.segments import Segments

SHAPES = {"conv": (8, 3, 3, 3), "wide": (40, 60), "dense": (10, 8), "bn.weight": (8,), "bn.bias": (8,)}
DECAYED = 3


def layout():
    return Layout(tuple(SHAPES), tuple(torch.Size(s) for s in SHAPES.values()), DECAYED)


def fixed_tensors(step):
    random = torch.Generator().manual_seed(step)
    return {n: torch.randn(s, generator=random) for n, s in SHAPES.items()}


def run_ours(config, steps, lr):
    """50 steps of ours on fixed gradients; the parameters after each, by name."""
    where, optimizer = layout(), build_optimizer(config)
    segments = Segments(where, where.segments())
    params = where.pack(fixed_tensors(0))
    slots = {name: torch.full_like(params, value) for name, value in optimizer.slots.items()}
    for step in range(steps):
        grads = where.pack(fixed_tensors(step + 1))
        params, slots = optimizer.update(params, grads, slots, torch.tensor(lr * (1 + step % 3)), segments)
        yield where.unpack(params)


def run_theirs(make, steps, lr, weight_decay):
    params = {n: torch.nn.Parameter(t) for n, t in fixed_tensors(0).items()}
    groups = [
        {"params": list(params.values())[:DECAYED], "weight_decay": weight_decay},
        {"params": list(params.values())[DECAYED:], "weight_decay": 0.0},
    ]
    optimizer = make(groups)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 + step % 3)
        for param, grad in zip(params.values(), fixed_tensors(step + 1).values(), strict=True):
            param.grad = grad
        optimizer.step()
        yield {n: p.detach() for n, p in params.items()}


@pytest.mark.parametrize(
    ("config", "make", "lr"),
    [
        (
            SGDConfig(momentum=0.9, nesterov=False, weight_decay=0.01),
            lambda g: torch.optim.SGD(g, lr=1.0, momentum=0.9),
            0.05,
        ),
        (
            SGDConfig(momentum=0.8, nesterov=True, weight_decay=0.01),
            lambda g: torch.optim.SGD(g, lr=1.0, momentum=0.8, nesterov=True),
            0.05,
        ),
        (
            RMSpropTFConfig(rho=0.9, momentum=0.9, eps=1e-3, weight_decay=0.01),
            lambda g: timm.optim.RMSpropTF(g, lr=1.0, alpha=0.9, momentum=0.9, eps=1e-3),
            0.01,
        ),
        # timm multiplies the rate outside the buffer, we inside as the TPU code does: equal while the rate is constant.
        (
            LARSConfig(momentum=0.9, weight_decay=0.01, eps=1e-8),
            lambda g: timm.optim.Lars(g, lr=1.0, momentum=0.9, trust_coeff=1e-3, eps=1e-8),
            5.0,
        ),
    ],
    ids=["sgd", "sgd-nesterov", "rmsprop_tf", "lars"],
)
def test_fifty_steps_equal_the_well_known_implementation(config, make, lr):
    """1e-5 of a tensor's norm, in float32: sums of squares and momentum accumulate in another order."""
    if isinstance(config, LARSConfig):
        theirs = lars_with_rate_inside(config, 50, lr)
    else:
        theirs = run_theirs(make, 50, lr, config.weight_decay)
    for step, (ours, reference) in enumerate(zip(run_ours(config, 50, lr), theirs, strict=True)):
        for name in SHAPES:
            gap = (ours[name] - reference[name]).norm() / reference[name].norm()
            assert gap < 1e-5, f"{name} at step {step}: {gap:.1e}"


def lars_with_rate_inside(config, steps, lr):
    """The published form, tensor by tensor in plain Python: m <- mu m + lr trust (g + wd w); w <- w - m."""
    params = {n: t.double() for n, t in fixed_tensors(0).items()}
    buffers = {n: torch.zeros_like(t) for n, t in params.items()}
    for step in range(steps):
        rate = lr * (1 + step % 3)
        for i, (name, grad) in enumerate(fixed_tensors(step + 1).items()):
            grad, w, trust = grad.double(), params[name], 1.0
            if i < DECAYED:
                trust = 1e-3 * w.norm() / (grad.norm() + config.weight_decay * w.norm() + config.eps)
                grad = grad + config.weight_decay * w
            buffers[name] = config.momentum * buffers[name] + rate * trust * grad
            params[name] = w - buffers[name]
        yield {n: p.float() for n, p in params.items()}


def test_lars_equals_timm_while_the_learning_rate_is_constant():
    config = LARSConfig(momentum=0.9, weight_decay=0.01, eps=1e-8)
    where = layout()
    segments, optimizer = Segments(where, where.segments()), build_optimizer(config)
    params, slots = where.pack(fixed_tensors(0)), {"momentum": torch.zeros(where.size)}
    named = {n: torch.nn.Parameter(t) for n, t in fixed_tensors(0).items()}
    theirs = timm.optim.Lars(
        [
            {"params": list(named.values())[:DECAYED], "weight_decay": 0.01},
            {"params": list(named.values())[DECAYED:], "weight_decay": 0.0},
        ],
        lr=2.0,
        momentum=0.9,
    )
    for step in range(1, 51):
        grads = fixed_tensors(step)
        params, slots = optimizer.update(params, where.pack(grads), slots, torch.tensor(2.0), segments)
        for name, param in named.items():
            param.grad = grads[name]
        theirs.step()
    for name, tensor in where.unpack(params).items():
        torch.testing.assert_close(tensor, named[name].detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("w", "g", "expected"),
    [
        (0.0, 3.0, 1.0),
        (2.0, 0.0, 1.0),
        (0.0, 0.0, 1.0),
        (2.0, 4.0, 1e-3 * 2 / (4 + 0.1 * 2)),
        (1.0, 3e38, 1e-3 / 3e38),
    ],
)
def test_the_trust_ratio_is_finite_and_as_the_formula_says(w, g, expected):
    ratio = trust_ratio(torch.tensor(w), torch.tensor(g), 1e-3, 0.1, 0.0)
    assert ratio.item() == pytest.approx(expected, rel=1e-5, abs=1e-44)


def test_norms_and_spread_are_those_of_the_tensors_without_their_padding():
    where = layout()
    segments = Segments(where, where.segments())
    tensors = fixed_tensors(3)
    torch.testing.assert_close(segments.norms(where.pack(tensors)), torch.stack([t.norm() for t in tensors.values()]))
    spread = where.unpack(segments.spread(torch.arange(5.0)))
    assert [t.unique().tolist() for t in spread.values()] == [[float(i)] for i in range(5)]


def test_a_layout_packs_and_unpacks_unchanged_and_starts_each_tensor_on_a_tile():
    where, tensors = layout(), fixed_tensors(1)
    flat = where.pack(tensors)
    assert len(flat) == where.size
    assert where.size % LANES == 0
    assert all(torch.equal(t, tensors[n]) for n, t in where.unpack(flat).items())
    assert flat.square().sum().item() == pytest.approx(sum(t.square().sum().item() for t in tensors.values()), rel=1e-5)
    assert where.decayed_size == sum(
        -(-torch.Size(s).numel() // LANES) * LANES for s in itertools.islice(SHAPES.values(), DECAYED)
    )
