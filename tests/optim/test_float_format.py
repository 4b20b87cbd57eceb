"""The emulated formats equal a reference that works on one value at a time, in exact fractions."""

import math
import struct
from fractions import Fraction

import numpy as np
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


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_all_bf16_values(form):
    """Among them zeros, subnormals, infinities and NaN."""
    check([b << 16 for b in range(2**16)], form)


def bit_reference(bits, exponent_bits, mantissa_bits):
    """The same cast on an array of float32 bits (uint32), in integers; checked against `reference` below."""
    field, fraction = (bits >> 23 & 0xFF).astype(np.int64), (bits & 0x7FFFFF).astype(np.int64)
    bias = 2 ** (exponent_bits - 1) - 1
    exponent = np.maximum(field - 127, 1 - bias)
    significand = (fraction | 1 << 23) >> np.minimum(exponent - (field - 127), 40)
    drop = 23 - mantissa_bits
    kept, rest = significand >> drop, significand & (1 << drop) - 1
    half = (1 << drop) >> 1
    kept += (rest > half) | ((rest == half) & (kept & 1 == 1) & (drop > 0))
    with np.errstate(over="ignore"):
        value = np.ldexp(kept.astype(np.float64), exponent - mantissa_bits).astype(np.float32)
    value = np.where(field - 127 > bias, np.float32(np.inf), np.where(field == 0, np.float32(0), value))
    signed = np.where(bits >> 31 == 1, -value, value)
    return np.where(field == 255, bits.view(np.float32), signed)


def random_bits(form, count):
    """Half of all float32 values, half of those around the range of a format."""
    random = np.random.default_rng(form)
    bits = random.integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32)
    middle = 127 - 2 ** (form[0] - 1)
    near = np.clip(random.integers(middle - 8, middle + 2 ** form[0] + 4, count // 2), 0, 254).astype(np.uint32)
    bits[::2] = bits[::2] & 0x807FFFFF | near << 23
    return bits


@pytest.mark.parametrize("form", FORMATS)
def test_a_million_random_float32_values_of_all_sizes_and_around_the_format(form):
    bits = random_bits(form, 1_000_000)
    found = quantize(torch.from_numpy(bits.view(np.float32).copy()), FloatFormat(*form)).numpy()
    expected = bit_reference(bits, *form)
    same = (found.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(found) & np.isnan(expected))
    assert same.all(), [(hex(b), f, e) for b, f, e in zip(bits[~same], found[~same], expected[~same], strict=True)][:3]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_the_reference_in_integers_equals_the_one_in_fractions(form):
    bits = random_bits(form, 20_000)
    for b, found in zip(bits.tolist(), bit_reference(bits, *form).tolist(), strict=True):
        expected = reference(float32(b), *form)
        assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_powers_and_logarithms_are_exact():
    exponents = torch.arange(-126, 128, dtype=torch.int32)
    assert power_of_two(exponents).tolist() == [2.0**e for e in range(-126, 128)]
    assert ceil_log2(power_of_two(exponents)).tolist() == exponents.tolist()
    assert ceil_log2(torch.tensor([3.0, 4.0, 4.000001, 0.3])).tolist() == [2, 2, 3, -1]
