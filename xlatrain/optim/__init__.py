"""Optimizers: each a pure tensor update over flat parameters, and an object that says which slots it needs."""

from __future__ import annotations

from typing import Protocol

import torch

from xlatrain.config import LARSConfig, OptimizerConfig, RMSpropTFConfig, SGDConfig
from xlatrain.optim.lars import LARS
from xlatrain.optim.rmsprop_tf import RMSpropTF
from xlatrain.optim.segments import Segments
from xlatrain.optim.sgd import SGD

Tensors = dict[str, torch.Tensor]


class Optimizer(Protocol):
    """What a train step asks of an optimizer. All tensors are flat, float32, on the device."""

    slots: dict[str, float]  # name of each slot and its value before the first step

    def update(
        self, params: torch.Tensor, grads: torch.Tensor, slots: Tensors, lr: torch.Tensor, segments: Segments
    ) -> tuple[torch.Tensor, Tensors]:
        """New parameters and slots. lr is a scalar tensor; segments tell where each tensor lies."""
        ...


def build_optimizer(config: OptimizerConfig) -> Optimizer:
    """The optimizer that a configuration names."""
    match config:
        case SGDConfig():
            return SGD(config.momentum, config.weight_decay, config.nesterov)
        case RMSpropTFConfig():
            return RMSpropTF(config.rho, config.momentum, config.eps, config.weight_decay)
        case LARSConfig():
            return LARS(config.momentum, config.weight_decay, config.trust_coefficient, config.eps, config.nesterov)
    raise ValueError(f"no optimizer for {type(config).__name__}")
