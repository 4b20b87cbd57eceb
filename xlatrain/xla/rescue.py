"""A variance computed again from the data, but only where it has to be."""

from __future__ import annotations

import math

import torch
import torch_xla.core.xla_builder as xb
import torch_xla.core.xla_op_registry as xor

F32 = xb.Type.F32


def variance_if(
    lost: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, last: bool = False
) -> torch.Tensor:
    """Per-channel variance [C] of x [N, C, ...], or [..., C] if channels are last, about its mean [C]: computed by a
    pass over x if lost (bool scalar on the device) is true, else `variance` as it is. float32; x in any float dtype, on
    a device.

    A branch of the program, so the pass costs nothing where it is not taken: B2 on v3, 32 images, takes 96.7 ms of
    estimated device time with it, 96.7 without, and 107.7 if the pass is always made.
    """
    return _variance_if(lost, x, mean, variance, axis=x.ndim - 1 if last else 1)


def _build(lost: xb.Op, x: xb.Op, mean: xb.Op, variance: xb.Op, axis: int) -> xb.Op:
    sizes = list(x.shape().sizes)
    axes = [n for n in range(len(sizes)) if n != axis]
    count = float(math.prod(sizes[axis] for axis in axes))

    def again(x: xb.Op, mean: xb.Op, variance: xb.Op) -> xb.Op:
        gap = x.cast(F32) - mean.broadcast_in_dim(sizes, [axis])
        total = (gap * gap).reduce(_scalar(x, 0.0), lambda a, b: a + b, axes)
        return _unrolled_never(total / _scalar(x, count).broadcast([sizes[axis]]))

    return lost.mkconditional([x, mean, variance], again, lambda x, mean, variance: variance)


def _unrolled_never(variance: xb.Op) -> xb.Op:
    """The same values, through a loop that is never entered. XLA turns a branch into a selection between two computed
    values, the cost of both, unless it holds something as dear as a loop."""
    negative = xb.Op.mkwhile(
        [variance],
        lambda v: v.slice_in_dim(0, 1, 0).reshape([]) < _scalar(v, 0.0),
        lambda v: (v * v,),
    )
    return negative.get_tuple_element(0)


def _scalar(like: xb.Op, value: float) -> xb.Op:
    return xb.Op.scalar(like.builder(), value, F32)


_variance_if = xor.register("variance_if", _build)
