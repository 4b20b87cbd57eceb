"""Float32 values as their bits, and back: torch's view(dtype) falls back to the CPU on torch_xla 2.9, and wrongly."""

from __future__ import annotations

import torch
import torch_xla.core.xla_builder as xb
import torch_xla.core.xla_op_registry as xor

_to_bits = xor.register("float_bits", lambda x: x.bitcast(xb.Type.S32))
_to_float = xor.register("bits_float", lambda x: x.bitcast(xb.Type.F32))


def float_bits(x: torch.Tensor) -> torch.Tensor:
    """float32 to int32 of the same bits, any shape, on the CPU or on a device."""
    return _to_bits(x) if x.is_xla else x.view(torch.int32)


def bits_float(x: torch.Tensor) -> torch.Tensor:
    """int32 to float32 of the same bits, any shape, on the CPU or on a device."""
    return _to_float(x) if x.is_xla else x.view(torch.float32)
