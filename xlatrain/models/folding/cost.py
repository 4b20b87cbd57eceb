"""What a block costs a TPU, plain and folded, in cycles of an image, forward and backward: a model for the rule of
`choose`, and for nothing else.

Three things count: tiles of 128 x 128 weights that pass through the matrix unit, each in 1.5 cycles for three
directions and two units; rows of 128 lanes that norms, activations and sums go through, 11 cycles each, of the input
twice; and the multiply-adds of a plain depthwise convolution, 2.35 vector operations each. Calibrated on the compiler's
estimates of single blocks (v3, 32 images, libtpu 0.0.21, 21 Nov 2026), in ms, here / there:

    channels    pixels  kernel  plain          folded
    24 - 144    65      3       9.4 / 9.5      4.6 / 4.8
    48 - 288    33      5       4.8 / 4.6      2.9 / 3.0
    120 - 720   17      5       2.3 / 2.4      2.6 / 3.0
    40 - 240    114     3       29.1 / 30.3    30.1 / 25.9
    64 - 384    57      5       14.4 / 13.4    11.7 / 10.8
"""

from __future__ import annotations

from xlatrain.models.folding.geometry import Layout, Window

LANES = 128
_TILE, _ROW, _MULTIPLY_ADD = 1.5, 11.0, 3 * 2.35 / 8  # cycles; 8 rows are one register


def plain_cycles(size: int, into: int, wide: int, kernel: int) -> float:
    """Of an inverted residual of stride 1 with square images of `size`, `into` channels expanded to `wide`."""
    trunk, columns = _columns(into), _columns(wide)
    tiles, rows = 2 * trunk * columns, columns + 2 * trunk
    return size * size * (_MULTIPLY_ADD * kernel * kernel * columns + _TILE * tiles + _ROW * rows)


def plain_strided_cycles(size: int, into: int, wide: int, kernel: int) -> float:
    """Of one of stride 2, without what follows its depthwise convolution. That takes twice the time for its place in
    the result: 3.4 ms of 144 channels, 65 pixels and a kernel of 5."""
    trunk, columns, smaller = _columns(into), _columns(wide), -(-size // 2)
    expand = size * size * (_TILE * trunk * columns + _ROW * (columns + 2 * trunk))
    return expand + smaller * smaller * columns * (2 * _MULTIPLY_ADD * kernel * kernel + _ROW)


def folded_cycles(trunk: Layout, wide: Layout, narrow: Layout, kernel: int, stride: int = 1) -> float:
    """Of the same folded. trunk: the layout of its input, and of its result if stride is 1; wide, narrow: of its
    expanded channels, before and after the depthwise convolution."""
    taps, back = 1, 1
    for here, there, home in ((wide.rows, narrow.rows, trunk.rows), (wide.columns, narrow.columns, trunk.columns)):
        taps *= Window.between(here, there, kernel, stride, kernel // 2).taps
        back *= Window.between(there, home).taps if stride == 1 else 1
    groups = wide.channels // (wide.group or wide.channels)
    before, after = _columns(wide.lanes[-1]), _columns(narrow.lanes[-1])
    lanes = trunk.lanes[-1] / LANES
    tiles = groups * (taps * before * after + lanes * (before + (after if stride == 1 else 0)))
    tiles += back * lanes * lanes if back > 1 else 0
    rows = groups * (before + (after if stride == 2 else 0)) + 2 * lanes
    return trunk.rows.folds * trunk.columns.folds * (_TILE * tiles + _ROW * rows)


def _columns(channels: int) -> int:
    """Vectors of 128 lanes that hold so many."""
    return -(-channels // LANES)
