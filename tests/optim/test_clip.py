"""Clipping equals torch's and timm's, and the paper's wherever float32 holds its numbers."""

import itertools
import math

import pytest
import timm.utils
import torch

from tests.optim.tensors import SHAPES, fixed_tensors, layout
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
