"""A depthwise convolution as shifted multiply-adds on [N, H, W, C], and its gradients.

XLA:CPU runs native ones 10 to 200 times slower than PyTorch does. Shifts along H and W leave the channels next to each
other, so that all loops are over whole vectors, whatever the stride.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F

from xlatrain.models.channels_last.sums import channel_sums
from xlatrain.models.channels_last.window import Window, cut
from xlatrain.xla.barrier import written


class _Depthwise(torch.autograd.Function):
    """x [N, H, W, C] by weight [kh, kw, C]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, window: Window) -> torch.Tensor:
        weight = written(weight)  # else it is read at each place from where the kernels lie, channels far apart
        ctx.save_for_backward(x, weight)
        ctx.window = window
        padded = window.padded(x)
        return _sum(window.seen(padded, tap) * weight[tap] for tap in window.taps())

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        x, weight = ctx.saved_tensors
        dx = input_gradient(grad, weight, ctx.window, tuple(x.shape[1:3])) if ctx.needs_input_grad[0] else None
        return dx, weight_gradient(x, grad, ctx.window), None


def weight_gradient(x: torch.Tensor, grad: torch.Tensor, window: Window) -> torch.Tensor:
    """[kh, kw, C]."""
    padded = window.padded(x)
    sums = [channel_sums(window.seen(padded, tap) * grad) for tap in window.taps()]
    return torch.stack(sums).view(*window.kernel, -1)


def input_gradient(grad: torch.Tensor, weight: torch.Tensor, window: Window, size: tuple[int, int]) -> torch.Tensor:
    """[N, H, W, C]. With a stride the pixels of each parity of rows and columns meet taps of their own: they are
    computed as planes, and woven together at the end."""
    rows, columns = (_phases(window, axis) for axis in (0, 1))
    planes = [-(-n // s) for n, s in zip(size, window.stride, strict=True)]
    before, after = zip(
        *(_reach(p, n, m) for p, n, m in zip((rows, columns), planes, grad.shape[1:3], strict=True)), strict=True
    )
    padded = F.pad(grad, (0, 0, before[1], after[1], before[0], after[0]))

    def plane(row: list[tuple[int, int]], column: list[tuple[int, int]]) -> torch.Tensor:
        terms = []
        for i, above in row:
            strip = cut(padded, 1, before[0] + above, before[0] + above + planes[0])
            for j, left in column:
                terms.append(cut(strip, 2, before[1] + left, before[1] + left + planes[1]) * weight[i, j])
        return _sum(terms) if terms else torch.zeros_like(padded[:, : planes[0], : planes[1]])

    if window.stride == (1, 1):
        return plane(rows[0], columns[0])
    woven = torch.stack([torch.stack([plane(row, column) for column in columns], 3) for row in rows], 2)
    whole = woven.reshape(len(grad), planes[0] * len(rows), planes[1] * len(columns), -1)
    return whole[:, : size[0], : size[1]]


def _phases(window: Window, axis: int) -> list[list[tuple[int, int]]]:
    """Along an axis, for pixels of each remainder by the stride: the taps that meet them, each with how many places of
    the result further."""
    kernel, stride, padding, dilation = (
        v[axis] for v in (window.kernel, window.stride, window.padding, window.dilation)
    )
    phases: list[list[tuple[int, int]]] = []
    for phase in range(stride):
        gaps = [(tap, phase + padding - tap * dilation) for tap in range(kernel)]
        phases.append([(tap, gap // stride) for tap, gap in gaps if gap % stride == 0])
    return phases


def _reach(phases: list[list[tuple[int, int]]], plane: int, size: int) -> tuple[int, int]:
    """How many places before the first and after the last the planes read."""
    shifts = [shift for phase in phases for _, shift in phase]
    return max(0, -min(shifts)), max(0, max(shifts) + plane - size)


def _sum(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    total = None
    for term in terms:
        total = term if total is None else total + term
    return total


def convolve_depthwise(x: torch.Tensor, weight: torch.Tensor, window: Window) -> torch.Tensor:
    """x [N, H, W, C], weight [C, 1, h, w] to [N, H', W', C]."""
    return _Depthwise.apply(x, weight[:, 0].permute(1, 2, 0), window)
