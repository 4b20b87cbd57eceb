"""Whether an optimizer of one's own is a pure update: tried on a few numbers, on the host."""

from __future__ import annotations

from xlatrain.config.schema import OptimizerConfig
from xlatrain.errors import Fault, in_a_line

_CURE = "xlatrain.optim.optimizer.Optimizer says what it must be: a pure update of flat tensors, none of torch.optim's"


def optimizer_faults(config: OptimizerConfig) -> list[Fault]:
    """What is wrong with an optimizer of one's own; nothing with those of xlatrain."""
    if not config._target_:
        return []
    try:
        problem = _try_update(config)
    except Exception as error:  # of somebody's code
        problem = in_a_line(error)
    return [Fault("optimizer._target_", f"{config._target_} cannot be used: {problem}", _CURE)] if problem else []


def _try_update(config: OptimizerConfig) -> str | None:
    """What is wrong with an update of two small tensors; None if nothing is."""
    import torch

    from xlatrain.optim.create import build_optimizer
    from xlatrain.optim.flat import Layout, Segments
    from xlatrain.optim.hyper import Hyper

    optimizer = build_optimizer(config)
    slots = getattr(optimizer, "slots", None)
    if not isinstance(slots, dict) or not callable(getattr(optimizer, "update", None)):
        return f"a {type(optimizer).__name__} has no `slots` (name: first value) and `update`"
    layout = Layout(("weight", "bias"), (torch.Size([4, 3]), torch.Size([4])), decayed=1, not_norm=2)
    params, grads = (layout.pack([torch.linspace(-1, 1, 12).reshape(4, 3) * s, torch.ones(4)]) for s in (1.0, 0.1))
    given = {"params": params, "grads": grads} | {name: torch.full_like(params, slots[name]) for name in slots}
    before = {name: tensor.clone() for name, tensor in given.items()}
    hyper = Hyper(lr=torch.tensor(0.01), momentum=torch.tensor(0.9), updates=torch.tensor(1.0))
    carried = {name: given[name] for name in slots}
    returned = optimizer.update(params, grads, carried, hyper, Segments(layout, layout.segments()))
    if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], dict):
        return "update returns no (parameters, slots)"
    new = {"params": returned[0], **returned[1]}
    if set(new) != {"params", *slots}:
        return f"update returns the slots {sorted(returned[1])}, of {sorted(slots)}"
    for name, tensor in new.items():
        if not isinstance(tensor, torch.Tensor) or (tensor.shape, tensor.dtype) != (params.shape, params.dtype):
            return f"update returns other {name} than float32 {list(params.shape)}"
    changed = [name for name, tensor in given.items() if not torch.equal(tensor, before[name])]
    return f"update changes {', '.join(changed)} in place: return new tensors" if changed else None
