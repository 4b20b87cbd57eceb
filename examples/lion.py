"""An optimizer of your own: a pure update of flat tensors (xlatrain.optim.optimizer.Optimizer).

    xlatrain train optimizer._target_=examples.lion.Lion optimizer.lr=0.002 +optimizer.kwargs.beta2=0.98

It is called with one argument, the options of the group (config.lr, weight_decay, momentum, decayed), and with what is
under optimizer.kwargs by name. What changes from step to step comes as tensors in `hyper`; a Python number is a
constant of the compiled step.
"""

import torch

from xlatrain.config.schema import OptimizerConfig
from xlatrain.optim.flat import Segments
from xlatrain.optim.hyper import Hyper


class Lion:
    """Chen et al., arXiv:2302.06675, algorithm 2: c = b1·m + (1 - b1)·g;  w <- w - lr·(sign(c) + wd·w);  m <- b2·m +
    (1 - b2)·g. b1 is optimizer.momentum."""

    def __init__(self, config: OptimizerConfig, beta2: float = 0.99):
        self.config, self.beta2 = config, beta2
        self.slots = {"average": 0.0}  # one flat tensor each, of the parameters' shape, with its first value

    def update(
        self,
        params: torch.Tensor,
        grads: torch.Tensor,
        slots: dict[str, torch.Tensor],
        hyper: Hyper,
        segments: Segments,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        average = slots["average"]
        direction = torch.sign(hyper.momentum * average + (1.0 - hyper.momentum) * grads)
        if self.config.weight_decay:
            decayed = direction + self.config.weight_decay * params
            direction = torch.where(segments.decayed(), decayed, direction)
        return params - hyper.lr * direction, {"average": self.beta2 * average + (1.0 - self.beta2) * grads}
