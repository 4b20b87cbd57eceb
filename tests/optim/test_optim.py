"""Optimizers over flat parameters follow torch's and timm's step for step."""

import math

import pytest
import timm
import timm.optim
import torch
from torch.func import functional_call

from tests.optim.tensors import DECAYED, SHAPES, fixed_tensors, layout
from xlatrain.config.compose import compose_config
from xlatrain.config.schema import AdamWConfig, LAMBConfig, LARSConfig, RMSpropTFConfig, SGDConfig
from xlatrain.engine.state import model_layout
from xlatrain.optim.create import build_optimizer
from xlatrain.optim.flat import ROW, Layout, Segments
from xlatrain.optim.hyper import Hyper, bias_correction
from xlatrain.optim.lamb import lamb_trust
from xlatrain.optim.lars import trust_ratio


def run_ours(config, steps, rates):
    """Steps of ours on fixed gradients; the parameters after each, by name."""
    where, optimizer = layout(), build_optimizer(config)
    segments = Segments(where, where.segments())
    params = where.pack(fixed_tensors(0))
    slots = {name: torch.full_like(params, value) for name, value in optimizer.slots.items()}
    for step in range(steps):
        grads = where.pack(fixed_tensors(step + 1))
        hyper = Hyper(torch.tensor(rates[step]), torch.tensor(config.momentum), torch.tensor(step + 1.0))
        params, slots = optimizer.update(params, grads, slots, hyper, segments)
        yield where.unpack(params)


def run_theirs(make, steps, rates, weight_decay):
    params = {n: torch.nn.Parameter(t) for n, t in fixed_tensors(0).items()}
    groups = [
        {"params": list(params.values())[:DECAYED], "weight_decay": weight_decay},
        {"params": list(params.values())[DECAYED:], "weight_decay": 0.0},
    ]
    optimizer = make(groups)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        for param, grad in zip(params.values(), fixed_tensors(step + 1).values(), strict=True):
            param.grad = grad
        optimizer.step()
        yield {n: p.detach().clone() for n, p in params.items()}


def follow(ours, theirs):
    """The largest distance between two trajectories, relative to a tensor's norm."""
    gaps = {}
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for name in SHAPES:
            gaps[name, step] = ((a[name] - b[name]).norm() / b[name].norm()).item()
    return max(gaps.values())


CHANGING = [0.02 * (1 + step % 3) for step in range(50)]
SAME = [0.5] * 50
WD = 0.01


@pytest.mark.parametrize(
    ("config", "make", "rates"),
    [
        (SGDConfig(nesterov=False), lambda g: torch.optim.SGD(g, lr=1.0, momentum=0.9), CHANGING),
        (SGDConfig(momentum=0.8), lambda g: torch.optim.SGD(g, lr=1.0, momentum=0.8, nesterov=True), CHANGING),
        (
            SGDConfig(decoupled_decay=True),
            lambda g: timm.optim.SGDW(g, lr=1.0, momentum=0.9, nesterov=True),
            CHANGING,
        ),
        (RMSpropTFConfig(), lambda g: timm.optim.RMSpropTF(g, lr=1.0, alpha=0.9, momentum=0.9, eps=1e-3), CHANGING),
        (AdamWConfig(), lambda g: torch.optim.AdamW(g, lr=1.0), CHANGING),
        (
            AdamWConfig(beta2=0.99, eps=1e-3),
            lambda g: torch.optim.AdamW(g, lr=1.0, betas=(0.9, 0.99), eps=1e-3),
            CHANGING,
        ),
        (LAMBConfig(), lambda g: timm.optim.Lamb(g, lr=1.0, max_grad_norm=None), CHANGING),
        (LAMBConfig(max_grad_norm=1.0), lambda g: timm.optim.Lamb(g, lr=1.0), CHANGING),
        (
            LAMBConfig(correct_bias=False, trust_clip=True),
            lambda g: timm.optim.Lamb(g, lr=1.0, max_grad_norm=None, bias_correction=False, trust_clip=True),
            CHANGING,
        ),
        # timm keeps the rate outside the momentum buffer, the TPU code inside: equal while the rate does not change.
        (LARSConfig(eps=1e-8), lambda g: timm.optim.Lars(g, lr=1.0, momentum=0.9, eps=1e-8), SAME),
        (
            LARSConfig(eps=1e-8, nesterov=True, trust_clip=True, trust_coefficient=0.9),
            lambda g: timm.optim.Lars(
                g, lr=1.0, momentum=0.9, eps=1e-8, nesterov=True, trust_clip=True, trust_coeff=0.9
            ),
            SAME,
        ),
    ],
)
def test_fifty_steps_equal_the_well_known_implementation(config, make, rates):
    """1e-5 of a tensor's norm, in float32: sums of squares and momentum accumulate in another order."""
    config.weight_decay = WD
    assert follow(run_ours(config, 50, rates), run_theirs(make, 50, rates, WD)) < 1e-5


def published_lars(config, rates):
    """The formulas of the header of lars.py, tensor by tensor, in float64."""
    params = {n: t.double() for n, t in fixed_tensors(0).items()}
    buffers = {n: torch.zeros_like(t) for n, t in params.items()}
    for step, rate in enumerate(rates):
        for i, (name, grad) in enumerate(fixed_tensors(step + 1).items()):
            grad, w, trust = grad.double(), params[name], 1.0
            if i < DECAYED + 1:  # all but the two parameters of the norm, the bias included
                grad = grad + config.loss_l2 * w
            if i < DECAYED:
                trust = config.trust_coefficient * w.norm() / (grad.norm() + WD * w.norm() + config.eps)
                trust = min(trust, config.trust_limit or math.inf)
                grad = grad + WD * w
            if config.value_limit:
                grad = grad.clamp(-config.value_limit, config.value_limit)
            if config.scaled_momentum:
                buffers[name] = config.momentum * buffers[name] + grad
                params[name] = w - rate * trust * buffers[name]
            else:
                buffers[name] = config.momentum * buffers[name] + rate * trust * grad
                params[name] = w - buffers[name]
        yield {n: p.float() for n, p in params.items()}


@pytest.mark.parametrize(
    "config",
    [
        LARSConfig(),
        LARSConfig(scaled_momentum=True),
        LARSConfig(eps=1e-3, loss_l2=0.02),
        LARSConfig(momentum=0.95),
        # As the lab of LARS's author has it, with limits that these tensors meet.
        LARSConfig(scaled_momentum=True, eps=1e-5, trust_limit=9e-4, value_limit=1.5),
    ],
)
def test_lars_is_the_published_formula_under_a_changing_rate(config):
    config.weight_decay = WD
    rates = [10 * rate for rate in CHANGING]
    assert follow(run_ours(config, 50, rates), published_lars(config, rates)) < 1e-5


def cross_entropy(model, params):
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5)).to(params["classifier.bias"].dtype)
    return torch.nn.functional.cross_entropy(functional_call(model, params, (images,)), torch.arange(4))


def published_efficientnet_updates(model, params, config, steps):
    """The TPU EfficientNet's loss (main.py of tensorflow/tpu: weight_decay · sum of v²/2 over the trainable variables
    without "batch_normalization" in their names) and TensorFlow's RMSProp on all that, in float64."""
    norms = {n for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    params = {n: p.double() for n, p in params.items()}
    square, buffer = ({n: torch.full_like(p, v) for n, p in params.items()} for v in (1.0, 0.0))
    for _ in range(steps):
        params = {n: p.detach().requires_grad_() for n, p in params.items()}
        decay = sum(p.square().sum() / 2 for n, p in params.items() if n.rpartition(".")[0] not in norms)
        (cross_entropy(model.double(), params) + config.weight_decay * decay).backward()
        for n, p in params.items():
            square[n] = config.rho * square[n] + (1 - config.rho) * p.grad**2
            buffer[n] = config.momentum * buffer[n] + config.lr * p.grad / (square[n] + config.eps) ** 0.5
        params = {n: p.detach() - buffer[n] for n, p in params.items()}
    return params


def our_updates(model, params, config, steps):
    """The gradient of the cross entropy alone, and our optimizer."""
    where, optimizer = model_layout(model, config.decayed).parameters, build_optimizer(config)
    segments, flat = Segments(where, where.segments()), where.pack(params)
    slots = {name: torch.full_like(flat, value) for name, value in optimizer.slots.items()}
    for step in range(steps):
        named = {n: p.clone().requires_grad_() for n, p in where.unpack(flat).items()}
        grads = where.pack(torch.autograd.grad(cross_entropy(model, named), list(named.values())))
        hyper = Hyper(torch.tensor(config.lr), torch.tensor(config.momentum), torch.tensor(step + 1.0))
        flat, slots = optimizer.update(flat, grads, slots, hyper, segments)
    return where.unpack(flat)


def test_rmsprop_decays_what_the_tpu_efficientnet_decays():
    """All but norms, biases included, as conf/optimizer/rmsprop_tf.yaml says. 1e-5 of a tensor's norm, since gradients
    here are float32; when weights alone are decayed biases are 1e-3 and more off."""
    config = compose_config(["optimizer=rmsprop_tf", "optimizer.weight_decay=0.1"])[0].optimizer
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=4).eval()
    start = {n: torch.randn_like(p) * 0.1 + p.detach() for n, p in model.named_parameters()}
    ours = our_updates(model, start, config, 3)
    config.decayed = "weights"
    weights_alone = our_updates(model, start, config, 3)
    for name, expected in published_efficientnet_updates(model, start, config, 3).items():
        assert (ours[name] - expected).norm() < 1e-5 * expected.norm()
        if name.endswith("bias") and "bn" not in name:
            assert (weights_alone[name] - expected).norm() > 1e-3 * expected.norm()


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
def test_the_trust_ratio_of_lars_is_finite_and_as_the_formula_says(w, g, expected):
    ratio = trust_ratio(torch.tensor(w), torch.tensor(g), 1e-3, 0.1, 0.0)
    assert ratio.item() == pytest.approx(expected, rel=1e-5, abs=1e-44)


@pytest.mark.parametrize("config", [LARSConfig(), LAMBConfig(), AdamWConfig(), RMSpropTFConfig(), SGDConfig()])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e15])
def test_no_optimizer_makes_a_finite_step_infinite(config, scale):
    """Zero, tiny and huge gradients, zero weights, a scalar parameter."""
    config.weight_decay = WD
    torch.manual_seed(0)
    where = Layout(("w", "zero", "scalar"), (torch.Size((4, 5)), torch.Size((3, 3)), torch.Size(())), 2, 2)
    segments, optimizer = Segments(where, where.segments()), build_optimizer(config)
    params = where.pack([torch.randn(4, 5), torch.zeros(3, 3), torch.tensor(1.5)])
    grads = where.pack([torch.randn(4, 5), torch.randn(3, 3), torch.tensor(-2.0)]) * scale
    slots = {name: torch.full_like(params, value) for name, value in optimizer.slots.items()}
    for step in range(3):
        hyper = Hyper(torch.tensor(0.1), torch.tensor(config.momentum), torch.tensor(step + 1.0))
        params, slots = optimizer.update(params, grads, slots, hyper, segments)
        assert torch.isfinite(params).all()


def test_lamb_clamps_the_norm_of_the_weight_if_asked():
    assert lamb_trust(torch.tensor(30.0), torch.tensor(2.0), None).item() == 15.0
    assert lamb_trust(torch.tensor(30.0), torch.tensor(2.0), 10.0).item() == 5.0


@pytest.mark.parametrize("beta", [0.9, 0.999, 0.99999])
def test_bias_correction_keeps_its_digits(beta):
    for updates in (1, 2, 10, 1000):
        found = bias_correction(beta, torch.tensor(float(updates))).item()
        assert found == pytest.approx(-math.expm1(updates * math.log(beta)), rel=3e-7)


def test_norms_and_spread_are_those_of_the_tensors_without_their_padding():
    where = layout()
    segments = Segments(where, where.segments())
    tensors = fixed_tensors(3)
    torch.testing.assert_close(segments.norms(where.pack(tensors)), torch.stack([t.norm() for t in tensors.values()]))
    spread = where.unpack(segments.spread(torch.arange(6.0)))
    assert [t.unique().tolist() for t in spread.values()] == [[float(i)] for i in range(6)]


def test_a_layout_packs_and_unpacks_unchanged_and_starts_each_tensor_on_a_tile():
    where, tensors = layout(), fixed_tensors(1)
    flat = where.pack(tensors)
    assert len(flat) == where.size
    assert where.size % ROW == 0
    assert all(torch.equal(t, tensors[n]) for n, t in where.unpack(flat).items())
    assert flat.square().sum().item() == pytest.approx(sum(t.square().sum().item() for t in tensors.values()), rel=1e-5)
    decayed = where.unpack(Segments(where, where.segments()).decayed())
    assert [bool(t.all()) for t in decayed.values()] == [i < DECAYED for i in range(len(SHAPES))]
    assert not any(t.any() for t in list(decayed.values())[DECAYED:])


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e19, 1e30])
def test_norms_hold_wherever_float32_does(scale):
    """Squares of 1e20 are infinite in float32 and those of 1e-24 are zero; the norms are neither."""
    from xlatrain.optim.clip import norm

    where = layout()
    tensors = {name: t * scale for name, t in fixed_tensors(3).items()}
    flat = where.pack(tensors)
    expected = torch.stack([t.double().norm() for t in tensors.values()]).float()
    torch.testing.assert_close(Segments(where, where.segments()).norms(flat), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(norm(flat), flat.double().norm().float(), rtol=1e-6, atol=0)
    assert Segments(where, where.segments()).norms(flat * 0).tolist() == [0.0] * len(SHAPES)
