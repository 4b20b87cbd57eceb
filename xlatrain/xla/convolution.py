"""Convolutions that torch has no words for: channels last, zeros put between the pixels, any padding, and a kernel for
each of several groups of channels that stays a dense one.

Torch's own convolutions reach XLA channels first and grouped by a count of features; a TPU's compiler then reshapes
them at a cost, and fuses neither norm nor activation into them (xlatrain/models/folding).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torch_xla.core.xla_builder as xb
import torch_xla.core.xla_op_registry as xor

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """Rows, then columns. step: of the window. dilation: of the input, dilation - 1 zeros between two pixels. padding:
    (before, after) of each; negative to cut off. kernel_dilation: likewise between two of the kernel's places."""

    step: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    kernel_dilation: Pair = (1, 1)


def convolve(x: torch.Tensor, kernel: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """x [N, H, W, I] by kernel [h, w, I, O] to [N, H', W', O]. In D groups, each with its own kernel: [N, H, W, D, I]
    by [h, w, D, I, O] to [N, H', W', D, O]. Any float dtype, both of one; on a device or on the CPU. Without
    gradient."""
    if x.is_xla:
        return _convolve(x, kernel, **_plain(geometry))
    if x.ndim == 5:
        groups = zip(x.unbind(3), kernel.unbind(2), strict=True)
        return torch.stack([convolve(a, k, geometry) for a, k in groups], 3)
    moves = {"stride": geometry.step, "dilation": geometry.kernel_dilation}
    return F.conv2d(_widened(x, geometry), kernel.permute(3, 2, 0, 1), **moves).permute(0, 2, 3, 1)


def kernel_gradient(x: torch.Tensor, gradient: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """The gradient of the kernel, [h, w, I, O] or [h, w, D, I, O], from the input and the gradient of the result of
    `convolve`."""
    if x.is_xla:
        return _kernel_gradient(x, gradient, **_plain(geometry))
    if x.ndim == 5:
        groups = zip(x.unbind(3), gradient.unbind(3), strict=True)
        return torch.stack([kernel_gradient(a, g, geometry) for a, g in groups], 2)
    images = _widened(x, geometry).transpose(0, 1)
    moves = {"stride": geometry.kernel_dilation, "dilation": geometry.step}
    return F.conv2d(images, gradient.permute(3, 0, 1, 2), **moves).permute(2, 3, 0, 1)


def _plain(geometry: Geometry) -> dict[str, list]:
    """A geometry as an op takes it: numbers, by which it finds the computation that it made before."""
    padding = [list(pair) for pair in geometry.padding]
    spread = list(geometry.kernel_dilation)
    return {"step": list(geometry.step), "dilation": list(geometry.dilation), "padding": padding, "spread": spread}


def _widened(x: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """[N, H, W, C] dilated and padded, as [N, C, H, W]."""
    n, height, width, c = x.shape
    (down, right), ((above, below), (before, after)) = geometry.dilation, geometry.padding
    wide = x.new_zeros(n, c, (height - 1) * down + 1, (width - 1) * right + 1)
    wide[:, :, ::down, ::right] = x.permute(0, 3, 1, 2)
    return F.pad(wide, (before, after, above, below))


# Groups are a third axis of the window, as XLA itself writes a product with a batch: dilated by the number of groups D,
# under a window of D with step D - 1, each group meets its own kernel and no other.


def _build(x: xb.Op, kernel: xb.Op, step: list, dilation: list, padding: list, spread: list) -> xb.Op:
    if len(x.shape().sizes) == 4:
        return x.conv_general_dilated(
            kernel, step, padding, dilation, spread,
            input_batch_dimension=0, input_spatial_dimensions=(1, 2), input_feature_dimension=3,
            kernel_spatial_dimensions=(0, 1), kernel_input_feature_dimension=2, kernel_output_feature_dimension=3,
            output_batch_dimension=0, output_spatial_dimensions=(1, 2), output_feature_dimension=3,
        )  # fmt: skip
    groups = x.shape().sizes[3]
    return x.conv_general_dilated(
        kernel, (*step, max(groups - 1, 1)), [*padding, (0, 0)], (*dilation, groups), (*spread, 1),
        input_batch_dimension=0, input_spatial_dimensions=(1, 2, 3), input_feature_dimension=4,
        kernel_spatial_dimensions=(0, 1, 2), kernel_input_feature_dimension=3, kernel_output_feature_dimension=4,
        output_batch_dimension=0, output_spatial_dimensions=(1, 2, 3), output_feature_dimension=4,
    )  # fmt: skip


def _build_gradient(
    x: xb.Op, gradient: xb.Op, step: list, dilation: list, padding: list, spread: list
) -> xb.Op:
    if len(x.shape().sizes) == 4:
        return x.conv_general_dilated(
            gradient, spread, padding, dilation, step,
            input_batch_dimension=3, input_spatial_dimensions=(1, 2), input_feature_dimension=0,
            kernel_spatial_dimensions=(1, 2), kernel_input_feature_dimension=0, kernel_output_feature_dimension=3,
            output_batch_dimension=2, output_spatial_dimensions=(0, 1), output_feature_dimension=3,
        )  # fmt: skip
    groups = x.shape().sizes[3]
    return x.conv_general_dilated(
        gradient, (*spread, max(groups - 1, 1)), [*padding, (0, 0)], (*dilation, groups), (*step, 1),
        input_batch_dimension=4, input_spatial_dimensions=(1, 2, 3), input_feature_dimension=0,
        kernel_spatial_dimensions=(1, 2, 3), kernel_input_feature_dimension=0, kernel_output_feature_dimension=4,
        output_batch_dimension=3, output_spatial_dimensions=(0, 1, 2), output_feature_dimension=4,
    )  # fmt: skip


_convolve = xor.register("convolve", _build)
_kernel_gradient = xor.register("kernel_gradient", _build_gradient)
