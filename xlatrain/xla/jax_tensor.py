"""A tensor on a device of JAX, with as much of torch's face as a run looks at."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from xlatrain.errors import CaptureError
from xlatrain.xla import guard


class JaxTensor:
    """A jax array on one device. shape, dtype and ndim are torch's."""

    __slots__ = ("array",)

    def __init__(self, array: jax.Array):
        self.array = array

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.array.shape)

    @property
    def dtype(self) -> torch.dtype:
        return getattr(torch, self.array.dtype.name)

    @property
    def ndim(self) -> int:
        return self.array.ndim

    def cpu(self) -> torch.Tensor:
        """A copy on the host. Waits for what computes it. Not a view: one would keep the buffer from being donated."""
        global _reads
        _reads += 1
        if self.dtype == torch.bfloat16:  # numpy knows it by JAX only
            return torch.from_numpy(np.array(self.array).view(np.uint16)).view(torch.bfloat16)
        return torch.from_numpy(np.array(self.array))

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Torch asks when it meets one, which happens in a step that reads what it was not given."""
        found = next(a for a in tree_leaves((args, kwargs or {})) if isinstance(a, cls))
        use = f"{found.dtype}{list(found.shape)}, used at {guard.caller(__file__)}"
        raise CaptureError(guard.FOREIGN.format(name="step", uses=use))

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def item(self) -> bool | int | float:
        return self.cpu().item()


_reads = 0


def reads() -> int:
    """Copies from devices to the host in this process so far, about: threads count without a lock."""
    return _reads


def to_jax(tensor: torch.Tensor, device: jax.Device) -> JaxTensor:
    """A host tensor on a device of JAX. On a CPU it may be the same memory, which JAX keeps and does not write to: when
    it is donated, JAX copies."""
    if tensor.dtype == torch.bfloat16:
        values = tensor.contiguous().view(torch.uint16).numpy().view(jax.numpy.bfloat16)
    else:
        values = tensor.detach().numpy()
    return JaxTensor(jax.device_put(values, device))
