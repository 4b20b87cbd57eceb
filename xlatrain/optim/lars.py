"""LARS, layer-wise adaptive rate scaling (You, Gitman, Ginsburg, arXiv:1708.03888), in the form of the TPU code.

The released TPU EfficientNet and the MLPerf reference scale inside the momentum buffer ("unscaled momentum"):

    trust = eta · |w| / (|g| + wd·|w| + eps),  1 where |w| = 0 or |g| = 0
    m <- mu·m + lr · trust · (g + wd·w);   w <- w - m

Batch norm and biases take plain momentum SGD at the raw learning rate, without decay.
"""

from __future__ import annotations

import torch

from xlatrain.optim.segments import Segments


def trust_ratio(
    param_norm: torch.Tensor, grad_norm: torch.Tensor, trust_coefficient: float, weight_decay: float, eps: float
) -> torch.Tensor:
    """eta·|w| / (|g| + wd·|w| + eps), and 1 where either norm is zero. Any shape."""
    usable = (param_norm > 0) & (grad_norm > 0)
    denominator = grad_norm + weight_decay * param_norm + eps
    one = torch.ones_like(denominator)
    return torch.where(usable, trust_coefficient * param_norm / torch.where(usable, denominator, one), one)


class LARS:
    """LARS over flat parameters."""

    def __init__(
        self,
        momentum: float = 0.9,
        weight_decay: float = 1e-5,
        trust_coefficient: float = 1e-3,
        eps: float = 0.0,
        nesterov: bool = False,
    ):
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov
        self.trust_coefficient, self.eps = trust_coefficient, eps
        self.slots = {"momentum": 0.0}

    def update(
        self,
        params: torch.Tensor,
        grads: torch.Tensor,
        slots: dict[str, torch.Tensor],
        lr: torch.Tensor,
        segments: Segments,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        trust = trust_ratio(
            segments.norms(params), segments.norms(grads), self.trust_coefficient, self.weight_decay, self.eps
        )
        trust = torch.where(segments.is_decayed(), trust, torch.ones_like(trust))
        decay = torch.where(segments.is_decayed(), self.weight_decay, 0.0)
        scaled = lr * segments.spread(trust) * (grads + segments.spread(decay) * params)
        buffer = self.momentum * slots["momentum"] + scaled
        return params - (scaled + self.momentum * buffer if self.nesterov else buffer), {"momentum": buffer}
