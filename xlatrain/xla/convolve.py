"""Convolutions of [N, H, W, I] by [h, w, I, O], and their gradients, which XLA:CPU is fast at: torch_xla itself writes
[N, C, H, W]. Tensors are on a device; stride, padding and dilation are each of (height, width)."""

from __future__ import annotations

import torch
import torch_xla.core.xla_builder as xb
import torch_xla.core.xla_op_registry as xor

Pair = tuple[int, int]


def convolve(x: torch.Tensor, kernel: torch.Tensor, stride: Pair, padding: Pair, dilation: Pair) -> torch.Tensor:
    """[N, H', W', O]."""
    pads = [(p, p) for p in padding]
    return _convolve(x, kernel, stride=stride, pads=pads, spread=(1, 1), dilation=dilation)


def input_gradient(
    grad: torch.Tensor, kernel: torch.Tensor, size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> torch.Tensor:
    """[N, H, W, I] from that of the result; size: (H, W)."""
    pads = []
    for n, m, k, s, p, d in zip(size, grad.shape[1:3], kernel.shape[:2], stride, padding, dilation, strict=True):
        span = d * (k - 1)
        pads.append((span - p, n - 1 - (m - 1) * s + p))
    turned = kernel.flip(0, 1).transpose(2, 3)
    return _convolve(grad, turned, stride=(1, 1), pads=pads, spread=stride, dilation=dilation)


def weight_gradient(
    x: torch.Tensor, grad: torch.Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> torch.Tensor:
    """[h, w, I, O]."""
    pads = []
    for n, m, k, s, p, d in zip(x.shape[1:3], grad.shape[1:3], kernel, stride, padding, dilation, strict=True):
        pads.append((p, d * (k - 1) + 1 + (m - 1) * s - n - p))
    return _weight_gradient(x, grad, stride=dilation, pads=pads, dilation=stride)


def _image_by_kernel(x: xb.Op, kernel: xb.Op, stride: Pair, pads: list[Pair], spread: Pair, dilation: Pair) -> xb.Op:
    return x.conv_general_dilated(
        kernel,
        stride,
        pads,
        spread,
        dilation,
        input_batch_dimension=0,
        input_feature_dimension=3,
        kernel_input_feature_dimension=2,
        kernel_output_feature_dimension=3,
        output_batch_dimension=0,
        output_feature_dimension=3,
        input_spatial_dimensions=(1, 2),
        kernel_spatial_dimensions=(0, 1),
        output_spatial_dimensions=(1, 2),
    )


def _image_by_image(x: xb.Op, grad: xb.Op, stride: Pair, pads: list[Pair], dilation: Pair) -> xb.Op:
    """Channels of x are its images here, and images what is summed over."""
    return x.conv_general_dilated(
        grad,
        stride,
        pads,
        (1, 1),
        dilation,
        input_batch_dimension=3,
        input_feature_dimension=0,
        kernel_input_feature_dimension=0,
        kernel_output_feature_dimension=3,
        output_batch_dimension=2,
        output_feature_dimension=3,
        input_spatial_dimensions=(1, 2),
        kernel_spatial_dimensions=(1, 2),
        output_spatial_dimensions=(0, 1),
    )


_convolve = xor.register("convolve", _image_by_kernel)
_weight_gradient = xor.register("convolve_weight_gradient", _image_by_image)
