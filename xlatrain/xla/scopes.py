"""Ops that know where they come from: which module of a model, forward and backward, or which part of a step.

torch_xla writes the scope of an op into its metadata when XLA_HLO_DEBUG=1; a profile or a plan then speaks of
`blocks.2.1.conv_dw` or `optimizer.LARS` where it would say `fusion.417`. Names change nothing that is computed. Where
scopes are nested the innermost counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch_xla
from torch import nn

_pusher = torch_xla._XLAC.profiler.scope_pusher
Result = TypeVar("Result")


@contextmanager
def named(name: str) -> Iterator[None]:
    """While this lasts, ops are traced under a name. Not those of a backward pass, which autograd runs in a thread of
    its own."""
    scope = _pusher(name)
    try:
        yield
    finally:
        del scope


def named_call(name: str, function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function returns, one tensor or a tuple, its ops traced under a name, forward and backward."""
    with named(name):
        result = function(*arguments)
    _name_backward(name, arguments, result, set())
    return result


@contextmanager
def named_modules(model: nn.Module, whole: type[nn.Module] | tuple[type[nn.Module], ...] = ()) -> Iterator[None]:
    """While this lasts, ops of each module are traced under its name, those of the model itself under "model". whole:
    types that count as one module though they have children."""
    handles: list[Any] = []
    inside: set[str] = set()
    claimed: set[Any] = set()
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in inside):
            continue
        if isinstance(module, whole):
            inside.add(name)
        handles += _hook(module, name or "model", claimed)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(module: nn.Module, name: str, claimed: set[Any]) -> list[Any]:
    open_scopes: list[Any] = []

    def enter(module: nn.Module, inputs: tuple) -> None:
        open_scopes.append(_pusher(name))

    def leave(module: nn.Module, inputs: tuple, output: Any) -> None:
        open_scopes.pop()
        _name_backward(name, inputs, output, claimed)

    return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


def _name_backward(name: str, inputs: tuple, output: Any, claimed: set[Any]) -> None:
    """Trace what a function added to the backward graph under a name, but for the nodes that are claimed: those of the
    functions inside it, which named them before."""
    open_scopes: list[Any] = []
    for node in _nodes(output, {t.grad_fn for t in inputs if isinstance(t, torch.Tensor)}) - claimed:
        claimed.add(node)
        node.register_prehook(lambda gradients: open_scopes.append(_pusher(name)))
        node.register_hook(lambda inputs, outputs: open_scopes.pop() and None)


def _nodes(output: Any, before: set[Any]) -> set[Any]:
    """The nodes of the backward graph that a function added: from its output down to what its inputs had."""
    found: set[Any] = set()
    waiting = [t.grad_fn for t in (output if isinstance(output, tuple) else (output,)) if isinstance(t, torch.Tensor)]
    seen = before | {None}
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if type(node).__name__ != "AccumulateGrad":
            found.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return found
