"""Batch norm whose statistics are shared by a group of replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from xlatrain.models.dtypes import wide
from xlatrain.xla.collectives import Groups, all_gather, all_reduce
from xlatrain.xla.rescue import variance_if


class Layout(Protocol):
    """How an activation lies: what of it belongs to a channel. models/folding and models/channels_last have others."""

    @property
    def axes(self) -> tuple[int, ...]:
        """Those that are no channels."""

    @property
    def split(self) -> tuple[int, ...] | None:
        """The others, with an axis before the last that is none of channels; None where there is no such axis."""

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """[C] to broadcast against an activation."""

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """An activation to [C]."""

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """An activation, 0 where nothing counts, to [C]."""

    def count(self, x: torch.Tensor) -> int:
        """Values of a channel."""

    def inside(self, device: torch.device) -> torch.Tensor | None:
        """Which values count: bool, broadcasts against an activation; None where all do."""


@dataclass(frozen=True)
class ChannelsFirst:
    """[N, C, ...]."""

    ndim: int
    split = None

    @property
    def axes(self) -> tuple[int, ...]:
        return 0, *range(2, self.ndim)

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        return values.view(1, -1, *[1] * (self.ndim - 2))

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(self.axes)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(self.axes)

    def count(self, x: torch.Tensor) -> int:
        return x.numel() // x.shape[1]

    def inside(self, device: torch.device) -> torch.Tensor | None:
        return None


class _GroupNormalize(torch.autograd.Function):
    """y = (x - mean) / sqrt(var + eps) · weight + bias with moments over the batch of all replicas of a group.

    Statistics in float32 whatever the dtype of x (float64 stays); one collective forward (two in groups above 32), one
    backward. What lies outside of a layout's image does not count, and becomes 0.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        shift: torch.Tensor,
        layout: Layout,
        eps: float,
        groups: Groups | None,
        group_size: int,
    ):
        inside = layout.inside(x.device)
        local = _local_moments(x, shift, eps, layout, inside)
        mean, var = _group_moments(*local, groups, group_size)
        inverse = torch.rsqrt(var + eps)
        y = (wide(x) - layout.spread(mean)) * layout.spread(inverse * weight) + layout.spread(bias)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.group = layout, groups, layout.count(x) * group_size
        ctx.mark_non_differentiable(mean, var)
        return _only(inside, y).to(x.dtype), mean, var

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, *_):
        x, weight, mean, inverse = ctx.saved_tensors
        layout, groups, count = ctx.group
        inside = layout.inside(x.device)
        g = _only(inside, wide(grad))
        normalised = (wide(x) - layout.spread(mean)) * layout.spread(inverse)
        local = torch.stack([layout.sum(g), layout.sum(g * normalised)])
        bias_mean, weight_mean = all_reduce(local, scale=1.0 / count, groups=groups)
        of_mean, of_variance = layout.spread(bias_mean), normalised * layout.spread(weight_mean)
        dx = _only(inside, layout.spread(weight * inverse) * (g - of_mean - of_variance))
        return dx.to(x.dtype), local[1], local[0], None, None, None, None, None


def _local_moments(
    x: torch.Tensor, shift: torch.Tensor, eps: float, layout: Layout, inside: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of this replica's x, each float32 [C].

    One pass gives both, inside the kernel that computes x: sums of x - shift and of its square, with shift a guess at
    the mean (the running mean). E[d²] - E[d]² loses the digits of a variance much below E[d]², d = x - shift: from a
    ratio of 64 on, about 1e-5 of it. Then, which is in the first steps of a layer far from its running mean, the
    variance is taken in a second pass about the mean.
    """
    centred = _only(inside, wide(x) - layout.spread(shift))
    first, second = layout.mean(centred), layout.mean(centred.square())
    mean, variance = shift + first, (second - first.square()).clamp_min(0.0)
    lost = (first.square() > 64.0 * (variance + eps)).any()
    centre = mean if layout.split is None else layout.spread(mean)
    how = layout.axes, layout.count(x), layout.split, inside
    return mean, variance_if(lost, x, centre, variance, *how)


def _group_moments(
    mean: torch.Tensor, variance: torch.Tensor, groups: Groups | None, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance over the replicas of a group, from each one's own, of equally many values: the variance is the
    mean of theirs and the variance of their means (Chan, Golub, LeVeque 1979, eq. 2.1), with nothing to cancel."""
    if size == 1:
        return mean, variance
    if size <= 32:
        # One exchange instead of two: gathering moves size/2 times the bytes, still less than it costs to begin one.
        means, variances = all_gather(torch.stack([mean, variance]), groups).unbind(1)
        mean = means.mean(0)
        return mean, variances.mean(0) + (means - mean).square().mean(0)
    mean_of_all = all_reduce(mean, scale=1.0 / size, groups=groups)
    spread = variance + (mean - mean_of_all).square()
    return mean_of_all, all_reduce(spread, scale=1.0 / size, groups=groups)


class GroupedBatchNorm(nn.Module):
    """Takes over a torch BatchNorm or a timm BatchNormAct2d, keeping its parameters, buffers, drop and act.

    Input [N, C, ...] in float32 or bfloat16, or as `layout` has it; output of the same dtype. In training the moments
    are those of N·…·k values, k = group_size replicas, and the running variance gets the unbiased one, as in torch.
    groups = None means all replicas in one group. The running statistics of different groups differ until they are
    averaged.
    """

    def __init__(
        self,
        norm: _BatchNorm,
        groups: Groups | None,
        group_size: int,
        momentum: float | None = None,
        eps: float | None = None,
    ):
        super().__init__()
        self.num_features, self.groups, self.group_size = norm.num_features, groups, group_size
        self.eps = norm.eps if eps is None else eps
        self.momentum = norm.momentum if momentum is None else momentum
        if self.momentum is None:
            raise ValueError("batch norm with a cumulative average (momentum=None) is not supported: set bn_momentum")
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.drop = getattr(norm, "drop", nn.Identity())
        self.act = getattr(norm, "act", nn.Identity())
        self.layout: Layout | None = None  # None: ChannelsFirst

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = torch.ones_like(self.running_mean) if self.weight is None else self.weight
        bias = torch.zeros_like(self.running_mean) if self.bias is None else self.bias
        layout = self.layout or ChannelsFirst(x.ndim)
        if self.training:
            shift = self.running_mean.detach().clone()
            y, mean, var = _GroupNormalize.apply(x, weight, bias, shift, layout, self.eps, self.groups, self.group_size)
            count = layout.count(x) * self.group_size
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var * (count / max(count - 1, 1)), self.momentum)
        else:
            scale = torch.rsqrt(self.running_var + self.eps) * weight
            y = (wide(x) - layout.spread(self.running_mean)) * layout.spread(scale) + layout.spread(bias)
            y = _only(layout.inside(x.device), y).to(x.dtype)
        return self.act(self.drop(y))

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, group_size={self.group_size}"


def convert_batch_norm(
    model: nn.Module, groups: Groups | None, group_size: int, momentum: float | None = None, eps: float | None = None
) -> int:
    """Replace every batch norm of a model by a GroupedBatchNorm, in place; returns how many. Other norms stay."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    for name, module in found:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, GroupedBatchNorm(module, groups, group_size, momentum, eps))
    return len(found)


def _only(inside: torch.Tensor | None, values: torch.Tensor) -> torch.Tensor:
    """The values inside, and 0 elsewhere."""
    return values if inside is None else torch.where(inside, values, values.new_zeros(()))
