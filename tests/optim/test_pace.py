"""Layer-wise rates are timm's, and what begins later begins as if its run had begun then."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay

from xlatrain.config.schema import AdamWConfig, SGDConfig
from xlatrain.engine.state import model_layout
from xlatrain.models.classifier import head_names
from xlatrain.models.layers import layer_scales
from xlatrain.optim.adamw import AdamW
from xlatrain.optim.flat import Segments
from xlatrain.optim.hyper import Hyper
from xlatrain.optim.pace import Pace
from xlatrain.optim.sgd import SGD

LR, DECAY = 0.05, 0.7
CASES = {
    "adamw": (
        AdamW(AdamWConfig(weight_decay=0.05)),
        lambda groups: torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.999), eps=1e-8),
    ),
    "sgd": (
        SGD(SGDConfig(weight_decay=0.05)),
        lambda groups: torch.optim.SGD(groups, lr=LR, momentum=0.9, nesterov=True),
    ),
}


@pytest.fixture(params=["test_efficientnet", "test_vit"])
def model(request):
    torch.manual_seed(0)
    return timm.create_model(request.param, num_classes=10)


def gradients(model, steps):
    generator = torch.Generator().manual_seed(1)
    draw = lambda p: torch.randn(p.shape, generator=generator)  # noqa: E731
    return [{name: draw(p) for name, p in model.named_parameters()} for _ in range(steps)]


def ours(model, optimizer, grads, scales=None, moves_from=None):
    """The parameters after the updates of xlatrain, by name, and slots as they were first and are now."""
    layout = model_layout(model).parameters
    segments = Segments(layout, layout.segments())
    params = layout.pack(dict(model.named_parameters()))
    first = {name: torch.full_like(params, value) for name, value in optimizer.slots.items()}
    slots = first
    scales, moves_from = (
        None if t is None else torch.tensor([t[n] for n in layout.names]) for t in (scales, moves_from)
    )
    for step, named in enumerate(grads):
        pace = Pace.at(torch.tensor(step), scales, moves_from, segments)
        updates = pace.of_updates(torch.tensor(step + 1.0))
        hyper = Hyper(torch.tensor(LR), torch.tensor(0.9), updates)
        new, new_slots = optimizer.update(params, pace.of_gradient(layout.pack(named)), slots, hyper, segments)
        params, slots = pace.of_update(params, slots, new, new_slots)
    return layout.unpack(params), layout, first, slots


def theirs(model, build, groups, grads):
    """The same by torch, group after group."""
    for group in groups:
        group["lr"] = LR * group.pop("lr_scale", 1.0)
    optimizer = build(groups)
    for named in grads:
        for name, p in model.named_parameters():
            p.grad = named[name] if any(p is q for group in groups for q in group["params"]) else None
        optimizer.step()
    return {name: p.detach() for name, p in model.named_parameters()}


def test_scales_are_those_of_timm_also_in_the_model_that_is_trained(model):
    expected = {}
    for group in param_groups_layer_decay(model, layer_decay=DECAY):
        expected |= {id(p): group["lr_scale"] for p in group["params"]}
    scales = layer_scales(model, DECAY)
    assert scales == {name: expected[id(p)] for name, p in model.named_parameters()}
    assert all(scales[name] == 1 for name in head_names(model))
    assert min(scales.values()) < DECAY**2


@pytest.mark.parametrize("case", CASES)
def test_layer_wise_rates_move_parameters_as_torch_with_the_groups_of_timm(model, case):
    optimizer, build = CASES[case]
    grads = gradients(model, 4)
    found, *_ = ours(model, optimizer, grads, scales=layer_scales(model, DECAY))
    groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=DECAY)
    if case == "sgd":  # whose rate torch leaves outside of the decay too
        assert {group["weight_decay"] for group in groups} == {0.0, 0.05}
    expected = theirs(model, build, groups, grads)
    for name, tensor in expected.items():  # an update is rounded to the parameter once more than torch rounds it
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_what_moves_later_moves_as_if_the_run_began_then(model, case):
    """The body from the third step on: bit by bit what four steps without the first two make of it."""
    optimizer, _ = CASES[case]
    grads, head = gradients(model, 6), head_names(model)
    late = {name: 0 if name in head else 2 for name, _ in model.named_parameters()}
    found, *_ = ours(model, optimizer, grads, moves_from=late)
    body, *_ = ours(model, optimizer, grads[2:])
    all_along, *_ = ours(model, optimizer, grads)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, all_along[name] if name in head else body[name], rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_move_yet_has_neither_decay_nor_slots(model, case):
    optimizer, _ = CASES[case]
    never = {name: 9 for name, _ in model.named_parameters()}
    found, _, first, slots = ours(model, optimizer, gradients(model, 3), moves_from=never)
    before = dict(model.named_parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in found.items())
    assert all(torch.equal(first[name], slots[name]) for name in slots)
