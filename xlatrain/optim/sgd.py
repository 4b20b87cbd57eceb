"""SGD with (Nesterov) momentum, in torch.optim.SGD's form: the learning rate stays outside the buffer."""

from __future__ import annotations

import torch

from xlatrain.optim.segments import Segments


def sgd_update(
    param: torch.Tensor, grad: torch.Tensor, buffer: torch.Tensor, lr: torch.Tensor, momentum: float, nesterov: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """m <- mu·m + g;  w <- w - lr·(g + mu·m if nesterov else m). Any shape, float32. Returns (w, m)."""
    buffer = momentum * buffer + grad
    return param - lr * (grad + momentum * buffer if nesterov else buffer), buffer


class SGD:
    """Momentum SGD with L2 weight decay on all but norms and biases."""

    def __init__(self, momentum: float = 0.9, weight_decay: float = 0.0, nesterov: bool = True):
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov
        self.slots = {"momentum": 0.0}

    def update(
        self,
        params: torch.Tensor,
        grads: torch.Tensor,
        slots: dict[str, torch.Tensor],
        lr: torch.Tensor,
        segments: Segments,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        grads = add_weight_decay(params, grads, self.weight_decay, segments)
        params, buffer = sgd_update(params, grads, slots["momentum"], lr, self.momentum, self.nesterov)
        return params, {"momentum": buffer}


def add_weight_decay(
    params: torch.Tensor, grads: torch.Tensor, weight_decay: float, segments: Segments
) -> torch.Tensor:
    """g + wd·w for the tensors that are decayed."""
    if not weight_decay:
        return grads
    return torch.where(segments.decayed(params), grads + weight_decay * params, grads)
