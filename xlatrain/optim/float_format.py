"""Any small float format, emulated in float32: what a gradient would be after a trip through it.

A format has `exponent` bits (2 to 8) and `mantissa` bits (0 to 23): (5, 2) and (4, 3) are the 8-bit ones, (8, 7) is
bfloat16, (5, 10) is float16. Semantics of CPD (drcut/CPD, arXiv:1911.08907; read in its code): the top exponent is
reserved for infinities; round to nearest even; float32 subnormals become zero; subnormals of the format are shifted
into place by truncation, then rounded; a carry out of the largest exponent is kept, not made infinite (it is where
float32 cannot hold it).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from xlatrain.xla.bits import bits_float, float_bits


@dataclass(frozen=True)
class FloatFormat:
    exponent: int
    mantissa: int

    @property
    def bias(self) -> int:
        """Of the exponent; also the largest exponent of a finite value."""
        return 2 ** (self.exponent - 1) - 1


FLOAT32 = FloatFormat(8, 23)


def quantize(x: torch.Tensor, form: FloatFormat) -> torch.Tensor:
    """Round float32 values, any shape, to those of a format; float32 again. Zeros, infinities and NaN pass."""
    field, fraction = _split(x)
    new_field = field - 127 + form.bias
    small = new_field <= 0
    # A subnormal of the format has the smallest exponent and a significand shifted right; 25 shifts leave nothing.
    # Significands have 24 bits, so float32 scales them by powers of two, floors and rounds them exactly. Shifts of
    # tensors by tensors, or of negative numbers, come out wrong on torch_xla 2.9.
    shift = torch.where(small, 1 - new_field, torch.zeros_like(new_field)).clamp(0, 25)
    significand = torch.floor((fraction + 0x800000).float() * power_of_two(-shift))
    kept = torch.round(significand * 2.0 ** (form.mantissa - 23))  # to even, as torch and XLA define it
    exponent = torch.where(small, torch.full_like(field, 1 - form.bias), field - 127)
    magnitude = kept * 2.0**-form.mantissa * power_of_two(exponent)
    overflow = new_field >= 2**form.exponent - 1
    magnitude = torch.where(overflow, torch.full_like(magnitude, float("inf")), magnitude)
    magnitude = torch.where(field == 0, torch.zeros_like(magnitude), magnitude)
    value = torch.where(float_bits(x) < 0, -magnitude, magnitude)
    return torch.where(field == 255, x, value)


def power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """2^exponent for int32 -126 … 127, made of bits: exact, which a device's exp2 need not be."""
    return bits_float((exponent.clamp(-126, 127) + 127) * 2**23)


def ceil_log2(x: torch.Tensor) -> torch.Tensor:
    """ceil(log2(x)) of positive normal float32 values, from their bits: int32."""
    field, fraction = _split(x)
    return field - 127 + (fraction != 0).to(torch.int32)


def _split(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The exponent field and the fraction of float32 values, the sign left out: int32 each."""
    bits = float_bits(x) & 0x7FFFFFFF
    return bits >> 23, bits & 0x7FFFFF
