"""The emulated formats equal a reference that works on one value at a time, in exact fractions."""

import math
import random
import struct
from fractions import Fraction

import pytest
import torch

from xlatrain.optim.float_format import FloatFormat, ceil_log2, power_of_two, quantize

FORMATS = [(5, 2), (4, 3), (3, 0), (8, 7), (5, 10)]


def reference(value, exponent_bits, mantissa_bits):
    """CPD's cast of one float32, written anew from its description."""
    if value == 0 or math.isinf(value) or math.isnan(value):
        return value
    sign, magnitude = (-1 if value < 0 else 1), Fraction(abs(value))
    if magnitude < Fraction(1, 2**126):
        return sign * 0.0
    exponent = math.frexp(abs(value))[1] - 1
    largest = 2 ** (exponent_bits - 1) - 1
    if exponent > largest:
        return sign * math.inf
    significand = magnitude / Fraction(2) ** exponent * 2**23  # an integer of 24 bits
    lowest = 1 - largest
    if exponent < lowest:
        significand = Fraction(math.floor(significand / 2 ** (lowest - exponent)))
        exponent = lowest
    kept = round(significand / 2 ** (23 - mantissa_bits))  # Python rounds halves to even
    result = kept * Fraction(2) ** (exponent - mantissa_bits)
    return sign * (math.inf if result >= 2**128 else float(result))


def float32(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def check(bits, form):
    values = [float32(b) for b in bits]
    found = quantize(
        torch.tensor([b - 2**32 if b >= 2**31 else b for b in bits], dtype=torch.int32).view(torch.float32),
        FloatFormat(*form),
    )
    for value, ours in zip(values, found.tolist(), strict=True):
        expected = reference(value, *form)
        assert ours == expected or (math.isnan(ours) and math.isnan(expected)), (value, form)
        assert math.copysign(1, ours) == math.copysign(1, expected) or math.isnan(ours)


@pytest.mark.parametrize("form", FORMATS)
def test_all_bf16_values(form):
    """Among them zeros, subnormals, infinities and NaN."""
    check([b << 16 for b in range(2**16)], form)


@pytest.mark.parametrize("form", FORMATS)
def test_random_float32_values_of_all_sizes_and_around_the_format(form):
    draw = random.Random(1)
    bits = [draw.getrandbits(32) for _ in range(100_000)]
    middle = 127 - 2 ** (form[0] - 1)
    bits += [
        draw.getrandbits(1) << 31
        | min(254, max(0, middle + draw.randrange(-8, 2 ** form[0] + 4))) << 23
        | draw.getrandbits(23)
        for _ in range(100_000)
    ]
    check(bits, form)


def test_powers_and_logarithms_are_exact():
    exponents = torch.arange(-126, 128, dtype=torch.int32)
    assert power_of_two(exponents).tolist() == [2.0**e for e in range(-126, 128)]
    assert ceil_log2(power_of_two(exponents)).tolist() == exponents.tolist()
    assert ceil_log2(torch.tensor([3.0, 4.0, 4.000001, 0.3])).tolist() == [2, 2, 3, -1]
