"""Ops that know which module of a model they come from, forward and backward.

torch_xla writes the scope of an op into its metadata when XLA_HLO_DEBUG=1; a profile or a plan then speaks of
`blocks.2.1.conv_dw` where it would say `fusion.417`. Names change nothing that is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch_xla
from torch import nn

_pusher = torch_xla._XLAC.profiler.scope_pusher


@contextmanager
def named_modules(model: nn.Module, whole: type[nn.Module] | tuple[type[nn.Module], ...] = ()) -> Iterator[None]:
    """While this lasts, ops of each module without children are traced under its name. whole: types that count as one
    module though they have children."""
    handles: list[Any] = []
    inside: set[str] = set()
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in inside):
            continue
        if isinstance(module, whole):
            inside.add(name)
        elif next(module.children(), None) is not None:
            continue
        handles += _hook(module, name)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(module: nn.Module, name: str) -> list[Any]:
    open_scopes: list[Any] = []

    def enter(module: nn.Module, inputs: tuple) -> None:
        open_scopes.append(_pusher(name))

    def leave(module: nn.Module, inputs: tuple, output: Any) -> None:
        open_scopes.pop()
        before = {t.grad_fn for t in inputs if isinstance(t, torch.Tensor)}
        for node in _nodes(output, before):
            node.register_prehook(lambda gradients: open_scopes.append(_pusher(name)))
            node.register_hook(lambda inputs, outputs: open_scopes.pop() and None)

    return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


def _nodes(output: Any, before: set) -> list[Any]:
    """The nodes of the backward graph that a module added: from its output down to what its inputs had."""
    found: list[Any] = []
    waiting = [output.grad_fn] if isinstance(output, torch.Tensor) else []
    seen = set(before) | {None}
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if type(node).__name__ != "AccumulateGrad":
            found.append(node)
            waiting += [parent for parent, _ in node.next_functions]
    return found
