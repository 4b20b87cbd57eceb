"""LARS, layer-wise adaptive rate scaling (You, Gitman, Ginsburg, arXiv:1708.03888), in the form of the TPU code.

The released TPU EfficientNet and the MLPerf reference scale inside the momentum buffer, "unscaled momentum" (verified):

    trust = eta · |w| / (|g| + wd·|w| + eps),  1 where |w| = 0 or |g| = 0
    m <- mu·m + lr · trust · (g + wd·w);   w <- w - m

"Scaled momentum" (tf.contrib, MLPerf v0.6; recalled) keeps rate and trust outside: m <- mu·m + g + wd·w,
w <- w - lr · trust · m. The two differ when trust or rate change from step to step. trust_clip is LARC's, as timm has
it: a trust of min(trust / lr, 1), so that a tensor's rate lr · trust never is above lr. trust_limit and value_limit
are of the code of LARS's author's lab (verified): min(trust, 50), and g + wd·w within ±10, of all tensors.

What is not decayed, batch norm and biases there, takes plain momentum SGD at the raw learning rate.

loss_l2 is the second decay of the reference EfficientNet-LARS code: an L2 term of the loss over all but the parameters
of norms, so that |g| holds it too and weights are decayed twice (1e-5 and 1e-5 there).
"""

from __future__ import annotations

import torch

from xlatrain.config.schema import LARSConfig
from xlatrain.optim.flat import Segments
from xlatrain.optim.hyper import Hyper


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

    def __init__(self, config: LARSConfig):
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
        if c.loss_l2:
            grads = torch.where(segments.not_norm(), grads + c.loss_l2 * params, grads)
        rate = segments.spread(self._rates(params, grads, hyper.lr, segments))
        decay = torch.where(segments.decayed(), c.weight_decay * params, torch.zeros_like(params))
        grads = grads + decay
        if c.value_limit is not None:
            grads = grads.clamp(-c.value_limit, c.value_limit)
        inside, outside = (grads, rate) if c.scaled_momentum else (rate * grads, 1.0)
        buffer = hyper.momentum * slots["momentum"] + inside
        return params - outside * (inside + hyper.momentum * buffer if c.nesterov else buffer), {"momentum": buffer}

    def _rates(self, params: torch.Tensor, grads: torch.Tensor, lr: torch.Tensor, segments: Segments) -> torch.Tensor:
        """The learning rate of each tensor."""
        c = self.config
        trust = trust_ratio(
            segments.norms(params),
            segments.norms(grads),
            c.trust_coefficient,
            c.weight_decay,
            c.eps,
        )
        if c.trust_limit is not None:
            trust = trust.clamp(max=c.trust_limit)
        adapted = torch.minimum(trust, lr) if c.trust_clip else lr * trust
        return torch.where(segments.is_decayed(), adapted, lr)
