"""AdamW (Loshchilov & Hutter, arXiv:1711.05101) in torch.optim.AdamW's form."""

from __future__ import annotations

import torch

from xlatrain.optim.hyper import Hyper, bias_correction
from xlatrain.optim.segments import Segments
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

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.01):
        self.beta1, self.beta2, self.eps, self.weight_decay = beta1, beta2, eps, weight_decay
        self.slots = {"mean": 0.0, "mean_square": 0.0}

    def update(
        self,
        params: torch.Tensor,
        grads: torch.Tensor,
        slots: dict[str, torch.Tensor],
        hyper: Hyper,
        segments: Segments,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        params = decay_weights(params, self.weight_decay, hyper.lr, segments)
        mean, mean_square = adam_moments(grads, slots["mean"], slots["mean_square"], self.beta1, self.beta2)
        root = torch.sqrt(mean_square) / torch.sqrt(bias_correction(self.beta2, hyper.updates))
        step = hyper.lr / bias_correction(self.beta1, hyper.updates)
        return params - step * mean / (root + self.eps), {"mean": mean, "mean_square": mean_square}
