"""LAMB, layer-wise adaptive moments (You et al., arXiv:1904.00962; algorithm as in TensorFlow Addons, verified).

    m, v as Adam;  r = m̂ / (sqrt(v̂) + eps);  u = r + wd·w;  trust = phi(|w|) / |u|, 1 where either norm is 0
    w <- w - lr · trust · u

phi is the identity, or the clamp of |w| to [0, max_weight_norm] (the paper leaves its bounds open; 10 is a port's).
Bias correction acts like a warm-up and can be switched off where there is one (paper's appendix, recalled).
What is not decayed takes the plain update: no decay, no trust ratio.
"""

from __future__ import annotations

import torch

from xlatrain.config.schema import LAMBConfig
from xlatrain.optim.adamw import adam_moments
from xlatrain.optim.clip import norm
from xlatrain.optim.flat import Segments
from xlatrain.optim.hyper import Hyper, bias_correction


def lamb_trust(param_norm: torch.Tensor, update_norm: torch.Tensor, max_weight_norm: float | None) -> torch.Tensor:
    """phi(|w|) / |u|, and 1 where either norm is zero. Any shape."""
    usable = (param_norm > 0) & (update_norm > 0)
    weight = param_norm if max_weight_norm is None else param_norm.clamp(max=max_weight_norm)
    one = torch.ones_like(param_norm)
    return torch.where(usable, weight / torch.where(usable, update_norm, one), one)


class LAMB:
    """LAMB over flat parameters. trust_clip limits the trust ratio to 1; max_grad_norm clips the whole gradient."""

    def __init__(self, config: LAMBConfig):
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
        if c.max_grad_norm is not None:
            length = norm(grads)
            grads = grads / torch.clamp(length / c.max_grad_norm, min=1.0)
        mean, mean_square = adam_moments(grads, slots["mean"], slots["mean_square"], c.momentum, c.beta2)
        numerator, root = mean, torch.sqrt(mean_square)
        if c.correct_bias:
            numerator = mean / bias_correction(c.momentum, hyper.updates)
            root = root / torch.sqrt(bias_correction(c.beta2, hyper.updates))
        decay = torch.where(segments.decayed(), c.weight_decay * params, torch.zeros_like(params))
        update = numerator / (root + c.eps) + decay
        trust = lamb_trust(segments.norms(params), segments.norms(update), c.max_weight_norm)
        if c.trust_clip:
            trust = trust.clamp(max=1.0)
        trust = torch.where(segments.is_decayed(), trust, torch.ones_like(trust))
        return params - hyper.lr * segments.spread(trust) * update, {"mean": mean, "mean_square": mean_square}
