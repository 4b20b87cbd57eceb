"""A compiled program is read to the cycle, the flop and the byte."""

from tests.planning.modules import MODULE
from xlatrain.planning.hlo import Shape, parse_module
from xlatrain.planning.network import Collective
from xlatrain.planning.program import read_program


def test_a_compiled_program_is_read_to_the_cycle_the_flop_and_the_byte():
    program = read_program(parse_module(MODULE), replicas=8)
    assert program.by_kind() == {"dense convolution": 500, "depthwise convolution": 300, "copy": 27}
    assert program.cycles == 827  # the rare branch of the conditional is not counted
    pointwise = 2 * 8 * 16 * 16 * 32
    taps = 7 * 7  # of 3 x 3 windows at 3 x 3 places on 5 x 5 pixels, those that lie inside: (2 + 3 + 2)²
    assert program.flops == pointwise + 2 * 8 * 16 * taps
    assert set(program.collectives) == {Collective("all-reduce", 64, 8, 1), Collective("all-gather", 256, 4, 2)}
    assert [(p.scope, p.p, p.c, p.k) for p in program.products] == [("blocks.0.conv_pw", 128, 16, 32)]
    assert (program.ops[0].scope, program.ops[0].op) == ("blocks.0.conv_pw", "convolution")
    assert (program.ops[0].lanes, program.ops[0].padding) == (32, 0.75)
    # Of nested scopes the innermost counts; what torch_xla adds to an op's own name is no scope.
    # A copy that the compiler added counts to what it copies.
    assert program.by_part() == {"blocks.0": 507, "rest": 300, "optimizer.LARS": 20}


def test_padding_counts_whole_tiles():
    shape = Shape("bf16", (32, 24, 65, 65), (1, 0, 3, 2), (8, 128))
    assert shape.bytes == 32 * 24 * 65 * 65 * 2
    assert shape.padded_bytes == 32 * 128 * 65 * 65 * 2
    assert Shape("f32", (100,), (0,), (1024,)).padded_bytes == 4096
