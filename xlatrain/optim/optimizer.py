"""What an optimizer is: a pure update of flat tensors."""

from __future__ import annotations

from typing import Protocol

import torch

from xlatrain.optim.flat import Segments
from xlatrain.optim.hyper import Hyper

Tensors = dict[str, torch.Tensor]


class Optimizer(Protocol):
    """What a train step asks of an optimizer. All tensors are flat, float32, on the device.

    Made of one argument, its configuration (config.schema.OptimizerConfig or a subclass); one's own, which
    optimizer._target_ names, also of what is under optimizer.kwargs, by name. `update` is pure: it changes nothing in
    place, and reads no device value on the host.
    """

    slots: dict[str, float]  # name of each slot and its value before the first step

    def update(
        self, params: torch.Tensor, grads: torch.Tensor, slots: Tensors, hyper: Hyper, segments: Segments
    ) -> tuple[torch.Tensor, Tensors]:
        """New parameters and slots; segments tell where each tensor lies."""
        ...
