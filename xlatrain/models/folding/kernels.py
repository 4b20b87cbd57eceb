"""Kernels for folded images, made of a model's own in every step, so that its parameters stay what they are.

`rows` and `columns` say which value of a kernel leads from where to where: bool [taps, fold of the input, fold of the
result, size], of Window.meets. A folded kernel is [taps, taps, lanes of the input, lanes of the result], zero where
nothing leads. With groups, which are of channels as Layout has them, there is an axis of groups before the lanes that
are grouped.
"""

from __future__ import annotations

import torch


def pointwise_kernel(
    weight: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, inside: int | None, outside: int | None
) -> torch.Tensor:
    """Of a weight [O, I, 1, 1]; inside, outside: channels of a group of the input, or of the result, not of both."""
    out, into = weight.shape[:2]
    ours, theirs = outside or out, inside or into
    matrix = weight.reshape(out, into).t().reshape(into // theirs, 1, 1, theirs, out // ours, 1, 1, ours)
    (taps, q, p), (across, r, s) = rows.shape[:3], columns.shape[:3]
    there = (rows.view(taps, 1, q, 1, p, 1) & columns.view(1, across, 1, r, 1, s)).view(
        taps, across, 1, q, r, 1, 1, p, s, 1
    )
    kernel = torch.where(there, matrix, torch.zeros_like(matrix))
    groups = [n for n in (into // theirs, out // ours) if n > 1]
    if len(groups) == 2:
        raise ValueError("groups on both sides of a pointwise convolution")
    lanes = (*(groups if inside else ()), q * r * theirs, *(groups if outside else ()), p * s * ours)
    return kernel.reshape(taps, across, *lanes)


def depthwise_kernel(
    weight: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, group: int | None
) -> torch.Tensor:
    """Of a weight [C, 1, k, k]; group: channels of a group of the input and of the result."""
    channels = weight.shape[0]
    each = group or channels
    chosen = _chosen(weight[:, 0], rows, columns)  # [t, u, q, r, p, s, C]
    taps, across, q, r, p, s, _ = chosen.shape
    chosen = chosen.view(taps, across, q, r, p, s, -1, each).permute(0, 1, 6, 2, 3, 4, 5, 7)
    chosen = chosen.reshape(taps, across, -1, q * r, 1, p * s * each)
    channel = torch.arange(each, device=weight.device)
    same = channel[:, None] == channel.repeat(p * s)[None, :]
    kernel = torch.where(same, chosen, torch.zeros_like(chosen))
    grouped = (channels // each,) if group else ()
    return kernel.reshape(taps, across, *grouped, q * r * each, p * s * each)


def dense_kernel(
    weight: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, outside: int | None = None
) -> torch.Tensor:
    """Of a weight [O, I, k, k]; outside: channels of a group of the result."""
    out, into = weight.shape[:2]
    chosen = _chosen(weight.flatten(0, 1), rows, columns)
    taps, across, q, r, p, s, _ = chosen.shape
    ours = outside or out
    kernel = chosen.view(taps, across, q, r, p, s, -1, ours, into).permute(0, 1, 6, 2, 3, 8, 4, 5, 7)
    grouped = (out // ours,) if outside else ()
    return kernel.reshape(taps, across, *grouped, q * r * into, p * s * ours)


def _chosen(weight: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """[C, k, k] to the value that leads from pixel (q, r), taps (t, u) on, to pixel (p, s): [t, u, q, r, p, s, C]. A
    product with ones and zeros, since a TPU is slow at indexing."""
    (t, q, p, k), (u, r, s, across) = rows.shape, columns.shape
    pairs = rows.view(t, 1, q, 1, p, 1, k, 1) & columns.view(1, u, 1, r, 1, s, 1, across)
    with torch.autocast(weight.device.type, enabled=False):
        chosen = pairs.reshape(-1, k * across).to(weight.dtype) @ weight.flatten(1).t()
    return chosen.view(t, u, q, r, p, s, -1)
