"""Batch norm whose statistics are shared by a group of replicas."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from xlatrain.models.channels_last.sums import channel_sums
from xlatrain.xla.collectives import Groups, all_gather, all_reduce
from xlatrain.xla.rescue import variance_if


class _GroupNormalize(torch.autograd.Function):
    """y = (x - mean) / sqrt(var + eps) · weight + bias with moments over the batch of all replicas of a group.

    Statistics in float32 whatever the dtype of x; one collective forward (two in groups above 32), one backward. x is
    [N, C, ...], or [N, H, W, C] if channels are last.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        shift: torch.Tensor,
        eps: float,
        groups: Groups | None,
        group_size: int,
        last: bool,
    ):
        count = x.numel() // len(weight) * group_size
        mean, var = _group_moments(*_local_moments(x, shift, eps, last), groups, group_size)
        inverse = torch.rsqrt(var + eps)
        y = (x.float() - _channels(mean, x, last)) * _channels(inverse * weight, x, last) + _channels(bias, x, last)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.group = groups, count, last
        ctx.mark_non_differentiable(mean, var)
        return y.to(x.dtype), mean, var

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, *_):
        x, weight, mean, inverse = ctx.saved_tensors
        groups, count, last = ctx.group
        g = grad.float()
        normalised = (x.float() - _channels(mean, x, last)) * _channels(inverse, x, last)
        local = torch.stack([_sums(g, last), _sums(g * normalised, last)])
        bias_mean, weight_mean = all_reduce(local, scale=1.0 / count, groups=groups)
        dx = _channels(weight * inverse, x, last) * (
            g - _channels(bias_mean, x, last) - normalised * _channels(weight_mean, x, last)
        )
        return dx.to(x.dtype), local[1], local[0], None, None, None, None, None


def _local_moments(x: torch.Tensor, shift: torch.Tensor, eps: float, last: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of this replica's x, each float32 [C].

    One pass gives both, inside the kernel that computes x: sums of x - shift and of its square, with shift a guess at
    the mean (the running mean). E[d²] - E[d]² loses the digits of a variance much below E[d]², d = x - shift: from a
    ratio of 64 on, about 1e-5 of it. Then, which is in the first steps of a layer far from its running mean, the
    variance is taken in a second pass about the mean.
    """
    centred = x.float() - _channels(shift, x, last)
    first, second = _means(centred, last), _means(centred.square(), last)
    mean, variance = shift + first, (second - first.square()).clamp_min(0.0)
    lost = (first.square() > 64.0 * (variance + eps)).any()
    return mean, variance_if(lost, x, mean, variance, last)


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
    """Takes over a torch BatchNorm or a timm BatchNormAct2d, keeping its parameters, buffers, drop and act. last: its
    input is [N, H, W, C].

    Input [N, C, ...] in float32 or bfloat16; output of the same dtype. In training the moments are those of N·…·k
    values, k = group_size replicas, and the running variance gets the unbiased one, as in torch. groups = None means
    all replicas in one group. The running statistics of different groups differ until they are averaged.
    """

    def __init__(
        self,
        norm: _BatchNorm,
        groups: Groups | None,
        group_size: int,
        momentum: float | None = None,
        eps: float | None = None,
        last: bool = False,
    ):
        super().__init__()
        self.last = last
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = torch.ones_like(self.running_mean) if self.weight is None else self.weight
        bias = torch.zeros_like(self.running_mean) if self.bias is None else self.bias
        last = self.last
        if self.training:
            shift = self.running_mean.detach().clone()
            y, mean, var = _GroupNormalize.apply(x, weight, bias, shift, self.eps, self.groups, self.group_size, last)
            count = x.numel() // self.num_features * self.group_size
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var * (count / max(count - 1, 1)), self.momentum)
        else:
            scale = torch.rsqrt(self.running_var + self.eps) * weight
            gap = x.float() - _channels(self.running_mean, x, last)
            y = (gap * _channels(scale, x, last) + _channels(bias, x, last)).to(x.dtype)
        return self.act(self.drop(y))

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, group_size={self.group_size}"


def convert_batch_norm(
    model: nn.Module,
    groups: Groups | None,
    group_size: int,
    momentum: float | None = None,
    eps: float | None = None,
    last: bool = False,
) -> int:
    """Replace every batch norm of a model by a GroupedBatchNorm, in place; returns how many. Other norms stay."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    for name, module in found:
        parent, _, leaf = name.rpartition(".")
        norm = GroupedBatchNorm(module, groups, group_size, momentum, eps, last)
        setattr(model.get_submodule(parent), leaf, norm)
    return len(found)


def _channels(values: torch.Tensor, x: torch.Tensor, last: bool) -> torch.Tensor:
    """Per-channel values shaped to broadcast against x."""
    return values if last else values.view(1, -1, *[1] * (x.ndim - 2))


def _means(x: torch.Tensor, last: bool) -> torch.Tensor:
    """[C], over all else."""
    return channel_sums(x) / (x.numel() // x.shape[3]) if last else x.mean([0, *range(2, x.ndim)])


def _sums(x: torch.Tensor, last: bool) -> torch.Tensor:
    """[C], over all else."""
    return channel_sums(x) if last else x.sum([0, *range(2, x.ndim)])
