"""The FLOPs of a model by its own arithmetic, whatever form a program gives it."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def train_flops(model: nn.Module, image_size: int) -> float:
    """FLOPs of convolutions and products for one image: three times those of the forward pass, as the field counts, a
    multiply-add being two. Padding counts as if it were pixels. (torch's counter knows groups forward only.) A
    model on the meta device, as check_model builds it, is counted without computing."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model.eval()(torch.empty(1, 3, image_size, image_size, device=next(model.parameters()).device))
    return 3.0 * counter.get_total_flops()


def depthwise_modules(model: nn.Module) -> frozenset[str]:
    """Names of the convolutions in which each channel has a kernel of its own."""
    return frozenset(
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
    )
