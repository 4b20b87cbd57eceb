"""How a model's tensors are laid out, and the state of a run before its first step: a few large tensors instead of a
thousand small.

Parameters, optimizer slots and their averages each are ONE flat float32 tensor. A step then has about twenty arguments,
not 1,200 (EfficientNet-B2: 10 ms a step of host time less), gradients reduce as one buffer, an update is one fused
loop, and the TPU compiler finds less to copy: 100.0 ms against 104.5 ms of estimated device time for B2, 32 images a v3
core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from xlatrain.engine.contract import TrainState, Weights
from xlatrain.models.layers import NOTHING, Frozen
from xlatrain.optim.flat import Layout


@dataclass(frozen=True)
class ModelLayout:
    """How a model's tensors are carried: trainable parameters, float buffers that change (batch norm's statistics),
    and other buffers, which do not. counters are batch norm's num_batches_tracked: not needed, but saved. aliases:
    (further name, name) of parameters that a model uses in several places. fixed: parameters and statistics that
    finetune.freeze keeps as they are; fixed_norms: the batch norms that those statistics are of."""

    parameters: Layout
    buffers: Layout
    frozen: tuple[str, ...]
    counters: tuple[str, ...]
    aliases: tuple[tuple[str, str], ...] = ()
    fixed: Layout = Layout((), (), 0)
    fixed_norms: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[tuple[str, Layout], ...]:
        """The flat tensors that hold the model, by their names in the state; fixed where something is."""
        fixed = [("fixed", self.fixed)] if self.fixed.names else []
        return ("params", self.parameters), ("buffers", self.buffers), *fixed

    def unpack(self, weights: Weights) -> dict[str, torch.Tensor]:
        """Flat weights as the model's tensors, by name."""
        found: dict[str, torch.Tensor] = {}
        for name, part in self.parts:
            found |= part.unpack(getattr(weights, name))
        return found

    def pack(self, tensors: Mapping[str, torch.Tensor]) -> Weights:
        """The model's tensors, by name, as flat weights."""
        return Weights(**{name: part.pack(tensors) for name, part in self.parts})


def model_layout(model: nn.Module, decayed: str = "weights", still: Frozen = NOTHING) -> ModelLayout:
    """Lay out a model's tensors: weights, then biases, then the parameters of norms. What is decayed and adapted is a
    part of these from the first on: "weights", tensors of more than one dimension; "not_norm"; or "all". still: what is
    not trained, and so lies apart."""
    everything = list(model.named_parameters())
    named = [(n, p) for n, p in everything if n not in still.parameters]
    fixed = [(n, p) for n, p in everything if n in still.parameters]
    weights = [(n, p) for n, p in named if p.ndim > 1]
    biases = [(n, p) for n, p in named if p.ndim <= 1 and not _is_norm(model, n)]
    norms = [(n, p) for n, p in named if p.ndim <= 1 and _is_norm(model, n)]
    ordered = weights + biases + norms
    not_norm = len(weights) + len(biases)
    counts = {"weights": len(weights), "not_norm": not_norm, "all": len(ordered)}
    statistics, counters = [], []
    for prefix, module in model.named_modules():
        if isinstance(getattr(module, "running_mean", None), torch.Tensor):
            dot = f"{prefix}." if prefix else ""
            where = fixed if prefix in still.norms else statistics
            where += [(dot + n, getattr(module, n)) for n in ("running_mean", "running_var")]
            counters.append(f"{dot}num_batches_tracked")
    changing = {n for n, _ in [*statistics, *fixed]} | set(counters)
    names = {id(p): n for n, p in everything}
    everywhere = ((n, names[id(p)]) for n, p in model.named_parameters(remove_duplicate=False))
    return ModelLayout(
        parameters=_layout(ordered, counts[decayed], not_norm),
        buffers=_layout(statistics, 0, 0),
        frozen=tuple(n for n, _ in model.named_buffers() if n not in changing),
        counters=tuple(counters),
        aliases=tuple((further, name) for further, name in everywhere if further != name),
        fixed=_layout(fixed, 0, 0),
        fixed_norms=tuple(sorted(still.norms)),
    )


def initial_state(model: nn.Module, layout: ModelLayout, slots: Mapping[str, float], ema: bool, rng: int) -> TrainState:
    """The state before step 0, on the host. slots: the first value of each; rng: the seed of random masks."""
    weights = layout.pack({**dict(model.named_parameters()), **dict(model.named_buffers())})
    params, buffers = weights.params, weights.buffers
    zero = torch.tensor(0, dtype=torch.int64)
    return TrainState(
        params=params,
        buffers=buffers,
        slots={name: torch.full_like(params, value) for name, value in slots.items()},
        ema_params=params.clone() if ema else None,
        ema_buffers=buffers.clone() if ema else None,
        fixed=weights.fixed,
        step=zero,
        skipped=zero.clone(),
        skipped_in_a_row=zero.clone(),
        rng=torch.tensor(rng, dtype=torch.int64),
    )


def first_seed(seed: int, ordinal: int) -> int:
    """The random seed of a replica before step 0: replicas and runs apart, whatever the seeds (SplitMix64)."""
    z = (seed * 0x9E3779B97F4A7C15 + (ordinal + 1) * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (z ^ (z >> 31)) >> 2  # room to count steps without overflowing int64


def _is_norm(model: nn.Module, name: str) -> bool:
    """Whether a parameter of one dimension belongs to a norm, or is otherwise no bias of a convolution or product."""
    owner = model.get_submodule(name.rpartition(".")[0])
    return not (name.endswith("bias") and getattr(getattr(owner, "weight", None), "ndim", 0) > 1)


def _layout(named: list[tuple[str, torch.Tensor]], decayed: int, not_norm: int) -> Layout:
    return Layout(tuple(n for n, _ in named), tuple(t.shape for _, t in named), decayed, not_norm)
