"""SGD with (Nesterov) momentum, in torch.optim.SGD's form: the learning rate stays outside the buffer."""

from __future__ import annotations

import torch

from xlatrain.config.schema import SGDConfig
from xlatrain.optim.flat import Segments
from xlatrain.optim.hyper import Hyper


def sgd_update(
    param: torch.Tensor,
    grad: torch.Tensor,
    buffer: torch.Tensor,
    lr: torch.Tensor,
    momentum: torch.Tensor | float,
    nesterov: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """m <- mu·m + g;  w <- w - lr·(g + mu·m if nesterov else m). Any shape. Returns (w, m)."""
    buffer = momentum * buffer + grad
    return param - lr * (grad + momentum * buffer if nesterov else buffer), buffer


class SGD:
    """Momentum SGD. Weight decay is L2 in the gradient or decoupled (w <- w - lr·wd·w), of what the segments say."""

    def __init__(self, config: SGDConfig):
        self.config, self.slots = config, {"momentum": 0.0}

    def update(
        self,
        params: torch.Tensor,
        grads: torch.Tensor,
        slots: dict[str, torch.Tensor],
        hyper: Hyper,
        segments: Segments,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        c = self.config
        if c.decoupled_decay:
            params = decay_weights(params, c.weight_decay, hyper.lr, segments)
        else:
            grads = add_weight_decay(params, grads, c.weight_decay, segments)
        params, buffer = sgd_update(params, grads, slots["momentum"], hyper.lr, hyper.momentum, c.nesterov)
        return params, {"momentum": buffer}


def add_weight_decay(
    params: torch.Tensor, grads: torch.Tensor, weight_decay: float, segments: Segments
) -> torch.Tensor:
    """L2: g + wd·w for the tensors that are decayed."""
    if not weight_decay:
        return grads
    return torch.where(segments.decayed(), grads + weight_decay * params, grads)


def decay_weights(params: torch.Tensor, weight_decay: float, lr: torch.Tensor, segments: Segments) -> torch.Tensor:
    """Decoupled: w - lr·wd·w for the tensors that are decayed."""
    if not weight_decay:
        return params
    return torch.where(segments.decayed(), params * (1.0 - lr * weight_decay), params)
