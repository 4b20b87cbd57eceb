"""Host tensors to a device, whichever runtime it is of."""

from __future__ import annotations

from typing import Any

import torch
import torch_xla

from xlatrain.xla.replica import HostTensors, Tensors


def to_device(tensors: HostTensors, device: Any) -> Tensors:
    """Copy host tensors to the device of a replica, in one transfer. Unlike Tensor.to, which keeps a small tensor on
    the host until a graph wants it, what comes back are device buffers."""
    if isinstance(device, torch.device):
        copies = torch_xla._XLAC._xla_tensors_from_aten(list(tensors.values()), [str(device)] * len(tensors), None)
        return dict(zip(tensors, copies, strict=True))
    from xlatrain.xla.jax_tensor import to_jax  # jax is an extra

    return {name: to_jax(tensor, device) for name, tensor in tensors.items()}
