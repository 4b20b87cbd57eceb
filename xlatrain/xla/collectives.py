"""All-reduce over all replicas or over groups of them, as ops inside a captured step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch_xla
import torch_xla.core.xla_model as xm

from xlatrain.xla.world import world_size

C = torch_xla._XLAC

Groups = Sequence[Sequence[int]]


def all_reduce(tensor: torch.Tensor, scale: float = 1.0, groups: Groups | None = None, op: str = "sum") -> torch.Tensor:
    """Reduce a tensor over replicas; each gets the result.

    tensor: any shape, float32 (XLA:CPU has no bf16 all-reduce, and sums want the digits). scale multiplies the result.
    groups: lists of ordinals, one all-reduce in each; None = all replicas. op: "sum", "min" or "max".
    With one replica in each group the tensor comes back scaled, and no collective is traced.
    """
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"all_reduce takes float32, got {tensor.dtype}")
    if (groups is not None and all(len(g) == 1 for g in groups)) or world_size() == 1:
        return tensor * scale if scale != 1.0 else tensor
    return C._xla_all_reduce(op, tensor, scale, [list(g) for g in groups or ()], True)


def all_gather(tensor: torch.Tensor, groups: Groups | None = None) -> torch.Tensor:
    """The tensors of all replicas, or of those of a group, by ordinal: float32 [n, ...] of [...]. Takes n times the
    memory. groups as in all_reduce; all of one size."""
    size = len(groups[0]) if groups else world_size()
    if size == 1:
        return tensor[None]
    # With pinned layouts torch_xla builds it of an all-reduce whose graph holds the ordinal: each replica would compile
    # a program of its own, and on XLA:CPU those never meet. The form with a token is ordered among other collectives.
    token, context = xm._get_all_reduce_token()
    lists = [list(g) for g in groups or ()]
    gathered, token = C._xla_all_gather_coalesced([tensor[None]], token, 0, size, lists, False)
    C._set_all_reduce_token(context.device, token)
    return gathered


def in_order(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The same values, but none before all are there: what follows is scheduled after what made them. Without it the
    compiler may interleave micro-batches and hold the activations of all of them at once."""
    copies = [tensor.clone() for tensor in tensors]
    xm.optimization_barrier_(copies)
    return tuple(copies)


def mean_over_replicas(tensor: torch.Tensor) -> torch.Tensor:
    """Arithmetic mean of a float32 tensor over all replicas."""
    return all_reduce(tensor, scale=1.0 / world_size(), op=xm.REDUCE_SUM)
