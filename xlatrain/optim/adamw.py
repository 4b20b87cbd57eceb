"""AdamW (Loshchilov & Hutter, arXiv:1711.05101) in torch.optim.AdamW's form."""

from __future__ import annotations

import torch

from xlatrain.config.schema import AdamWConfig
from xlatrain.optim.flat import Segments
from xlatrain.optim.hyper import Hyper, bias_correction
from xlatrain.optim.sgd import decay_weights


def adam_moments(
    grad: torch.Tensor, mean: torch.Tensor, mean_square: torch.Tensor, beta1: torch.Tensor | float, beta2: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """m <- b1·m + (1 - b1)·g;  v <- b2·v + (1 - b2)·g². Any shape. Returns (m, v)."""
    return torch.lerp(mean, grad, 1.0 - beta1), beta2 * mean_square + (1.0 - beta2) * grad.square()


class AdamW:
    """Adam with decoupled weight decay of what the segments say.

    beta1 is a constant of the run: its bias correction is a power of it, which a cycled momentum has not.
    """

    def __init__(self, config: AdamWConfig):
        self.config, self.slots = config, {"mean": 0.0, "mean_square": 0.0}

    def update(
        self,
        params: torch.Tensor,
        grads: torch.Tensor,
        slots: dict[str, torch.Tensor],
        hyper: Hyper,
        segments: Segments,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        c = self.config
        params = decay_weights(params, c.weight_decay, hyper.lr, segments)
        mean, mean_square = adam_moments(grads, slots["mean"], slots["mean_square"], c.momentum, c.beta2)
        root = torch.sqrt(mean_square) / torch.sqrt(bias_correction(c.beta2, hyper.updates))
        step = hyper.lr / bias_correction(c.momentum, hyper.updates)
        return params - step * mean / (root + c.eps), {"mean": mean, "mean_square": mean_square}
