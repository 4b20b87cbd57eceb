"""A compiled program in small, as text, and an estimate made of it."""

from xlatrain.cli import plan as plans
from xlatrain.planning.estimate import Memory, Step, estimate
from xlatrain.planning.hlo import parse_module
from xlatrain.planning.program import read_program
from xlatrain.preflight.check import check

CYCLES = 'backend_config={"window_config":{"estimated_cycles":"%d"}}'


MODULE = f"""HloModule step

%add (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}}

%fused (p0: bf16[8,16,4,4], p1: bf16[32,16,1,1]) -> bf16[8,32,4,4] {{
  %p0 = bf16[8,16,4,4]{{1,0,3,2:T(8,128)(2,1)}} parameter(0)
  %p1 = bf16[32,16,1,1]{{0,1,3,2:T(8,128)(2,1)}} parameter(1)
  ROOT %conv = bf16[8,32,4,4]{{1,0,3,2:T(8,128)(2,1)}} convolution(%p0, %p1), window={{size=1x1}}, \
dim_labels=bf01_oi01->bf01, metadata={{op_name="blocks.0.conv_pw.7/aten__convolution_overrideable"}}
}}

%depthwise (p0: bf16[8,16,5,5], p1: bf16[16,1,3,3]) -> bf16[8,16,3,3] {{
  %p0 = bf16[8,16,5,5]{{1,0,3,2:T(8,128)(2,1)}} parameter(0)
  %p1 = bf16[16,1,3,3]{{0,1,3,2:T(8,128)(2,1)}} parameter(1)
  ROOT %conv = bf16[8,16,3,3]{{1,0,3,2:T(8,128)(2,1)}} convolution(%p0, %p1), \
window={{size=3x3 stride=2x2 pad=1_1x1_1}}, dim_labels=bf01_oi01->bf01, feature_group_count=16
}}

%rare (x: f32[16]) -> f32[16] {{
  %x = f32[16]{{0:T(256)}} parameter(0)
  ROOT %twice = f32[16]{{0:T(256)}} multiply(%x, %x), {CYCLES % 1000}
}}

%usual (x: f32[16]) -> f32[16] {{
  ROOT %x = f32[16]{{0:T(256)}} parameter(0)
}}

ENTRY %main (x: bf16[8,16,4,4], w: bf16[32,16,1,1], i: bf16[8,16,5,5], k: bf16[16,1,3,3], c: pred[]) -> f32[16] {{
  %x = bf16[8,16,4,4]{{1,0,3,2:T(8,128)(2,1)}} parameter(0)
  %w = bf16[32,16,1,1]{{0,1,3,2:T(8,128)(2,1)}} parameter(1)
  %i = bf16[8,16,5,5]{{1,0,3,2:T(8,128)(2,1)}} parameter(2)
  %k = bf16[16,1,3,3]{{0,1,3,2:T(8,128)(2,1)}} parameter(3)
  %c = pred[]{{:T(1024)}} parameter(4)
  %f = bf16[8,32,4,4]{{1,0,3,2:T(8,128)(2,1)}} fusion(%x, %w), kind=kOutput, calls=%fused, \
metadata={{op_name="blocks.0.6/blocks.0.conv_pw.7/aten__convolution_overrideable"}}, {CYCLES % 500}
  %d = bf16[8,16,3,3]{{1,0,3,2:T(8,128)(2,1)}} fusion(%i, %k), kind=kOutput, calls=%depthwise, {CYCLES % 300}
  %q = bf16[8,32,4,4]{{1,0,3,2:T(8,128)(2,1)}} copy(%f), {CYCLES % 7}
  %s = f32[16]{{0:T(256)}} copy(%z), metadata={{op_name="optimizer.LARS.9/aten__mul.3/aten__mul"}}, {CYCLES % 20}
  %r = f32[16]{{0:T(256)}} all-reduce(%s), replica_groups={{}}, to_apply=%add
  %g = f32[4,16]{{1,0:T(4,128)}} all-gather(%s), replica_groups={{{{0,1,2,3}},{{4,5,6,7}}}}, dimensions={{0}}
  %g2 = f32[4,16]{{1,0:T(4,128)}} all-gather(%r), replica_groups=[2,4]<=[8], dimensions={{0}}
  ROOT %o = f32[16]{{0:T(256)}} conditional(%c, %r, %r), true_computation=%rare, false_computation=%usual
}}
""".replace("\\\n", "")


def an_estimate():
    plan = check(plans.with_defaults(["model=test_efficientnet", "train.global_batch=64"]))
    program = read_program(parse_module(MODULE), replicas=8)
    memory = (Memory(2**30, 2**30, 2**30, 2**29, 0), Memory(2**28, 0, 0, 0, 0))
    train, evaluation = (Step(True, m, m.total, program, 1.0) for m in memory)
    return estimate(plan, train, evaluation, parameters=7, flops=1e9, depthwise=frozenset())
