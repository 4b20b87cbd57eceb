"""What an optimizer is told anew at each step, as tensors on the device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Hyper:
    """Scalar tensors; a Python number would be frozen into the program.

    lr: learning rate. momentum: of the momentum buffer, or the first beta. updates: updates applied, this one included,
    so 1 at the first; a flat tensor where tensors do not all begin at once (optim.pace).
    """

    lr: torch.Tensor
    momentum: torch.Tensor
    updates: torch.Tensor


def bias_correction(beta: float, updates: torch.Tensor) -> torch.Tensor:
    """1 - beta^t by expm1: all digits of float32 also where beta^t is close to 1, as at Adam's first steps."""
    if beta == 0.0:
        return torch.ones_like(updates)
    return -torch.expm1(updates * math.log(beta))
