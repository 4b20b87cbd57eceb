"""Optimizers: each a pure tensor update over flat parameters, and an object that says which slots it needs."""

from __future__ import annotations

from typing import Protocol

import torch

from xlatrain.config.schema import AdamWConfig, LAMBConfig, LARSConfig, OptimizerConfig, RMSpropTFConfig, SGDConfig
from xlatrain.optim.adamw import AdamW
from xlatrain.optim.hyper import Hyper
from xlatrain.optim.lamb import LAMB
from xlatrain.optim.lars import LARS
from xlatrain.optim.rmsprop_tf import RMSpropTF
from xlatrain.optim.segments import Segments
from xlatrain.optim.sgd import SGD

Tensors = dict[str, torch.Tensor]


class Optimizer(Protocol):
    """What a train step asks of an optimizer. All tensors are flat, float32, on the device."""

    slots: dict[str, float]  # name of each slot and its value before the first step

    def update(
        self, params: torch.Tensor, grads: torch.Tensor, slots: Tensors, hyper: Hyper, segments: Segments
    ) -> tuple[torch.Tensor, Tensors]:
        """New parameters and slots; segments tell where each tensor lies."""
        ...


def build_optimizer(config: OptimizerConfig) -> Optimizer:
    """The optimizer that a configuration names."""
    c = config
    match c:
        case SGDConfig():
            return SGD(c.weight_decay, c.nesterov, c.decoupled_decay)
        case RMSpropTFConfig():
            return RMSpropTF(c.rho, c.eps, c.weight_decay, c.decoupled_decay)
        case AdamWConfig():
            return AdamW(c.momentum, c.beta2, c.eps, c.weight_decay)
        case LAMBConfig():
            return LAMB(
                c.momentum,
                c.beta2,
                c.eps,
                c.weight_decay,
                c.correct_bias,
                c.max_weight_norm,
                c.trust_clip,
                c.max_grad_norm,
            )
        case LARSConfig():
            return LARS(
                c.weight_decay,
                c.trust_coefficient,
                c.eps,
                c.nesterov,
                c.scaled_momentum,
                c.trust_clip,
                c.loss_l2,
            )
    raise ValueError(f"no optimizer for {type(config).__name__}")
