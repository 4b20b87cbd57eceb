"""RMSProp with TensorFlow's semantics, which EfficientNet was trained with.

Against torch.optim.RMSprop: the mean square starts at one, epsilon is inside the square root, and the learning rate is
multiplied into the momentum buffer. Constants of the reference TPU code: rho 0.9, momentum 0.9, eps 0.001 (verified).
"""

from __future__ import annotations

import torch

from xlatrain.config.schema import RMSpropTFConfig
from xlatrain.optim.flat import Segments
from xlatrain.optim.hyper import Hyper
from xlatrain.optim.sgd import add_weight_decay, decay_weights


def rmsprop_tf_update(
    param: torch.Tensor,
    grad: torch.Tensor,
    mean_square: torch.Tensor,
    buffer: torch.Tensor,
    lr: torch.Tensor,
    rho: float,
    momentum: torch.Tensor | float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """s <- s + (1 - rho)(g² - s);  m <- mu·m + lr·g / sqrt(s + eps);  w <- w - m. Returns (w, s, m)."""
    mean_square = mean_square + (1.0 - rho) * (grad.square() - mean_square)
    buffer = momentum * buffer + lr * grad / torch.sqrt(mean_square + eps)
    return param - buffer, mean_square, buffer


class RMSpropTF:
    """TensorFlow's RMSProp with momentum. Weight decay is L2 or decoupled, of what the segments say."""

    def __init__(self, config: RMSpropTFConfig):
        self.config, self.slots = config, {"mean_square": 1.0, "momentum": 0.0}

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
        params, mean_square, buffer = rmsprop_tf_update(
            params,
            grads,
            slots["mean_square"],
            slots["momentum"],
            hyper.lr,
            c.rho,
            hyper.momentum,
            c.eps,
        )
        return params, {"mean_square": mean_square, "momentum": buffer}
