"""Gradient clipping, after gradients are reduced and before they are applied."""

from __future__ import annotations

import torch

from xlatrain.layout import Layout


def clip_value(grads: torch.Tensor, limit: float) -> torch.Tensor:
    """Each value to -limit … limit. Any shape."""
    return grads.clamp(-limit, limit)


def clip_norm(grads: torch.Tensor, limit: float) -> torch.Tensor:
    """The whole gradient scaled down to an L2 norm of at most `limit`, as torch's clip_grad_norm_ does it."""
    return grads * torch.clamp(limit / (norm(grads) + 1e-6), max=1.0)


def norm(x: torch.Tensor) -> torch.Tensor:
    """L2 norm of all values, scaled by the largest so that no square overflows or vanishes; a scalar tensor."""
    largest = x.abs().max()  # not amax(), which reduces nothing on torch_xla 2.9
    scale = torch.where(largest > 0, largest, torch.ones_like(largest))
    return scale * (x / scale).square().sum().sqrt()


def clip_adaptive(params: torch.Tensor, grads: torch.Tensor, limit: float, layout: Layout) -> torch.Tensor:
    """AGC (Brock et al., arXiv:2102.06171) with timm's constants: each unit's gradient norm to at most limit times the
    unit's weight norm (at least 1e-3). A unit is an output channel; a tensor of one dimension is one unit."""
    weights, clipped = layout.unpack(params), []
    for name, grad in layout.unpack(grads).items():
        largest = _unit_norms(weights[name]).clamp_min(1e-3) * limit
        norm = _unit_norms(grad)
        clipped.append(torch.where(norm < largest, grad, grad * (largest / norm.clamp_min(1e-6))))
    return layout.pack(clipped)


def _unit_norms(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.ndim <= 1:
        return tensor.square().sum().sqrt()
    return tensor.square().sum(tuple(range(1, tensor.ndim)), keepdim=True).sqrt()
