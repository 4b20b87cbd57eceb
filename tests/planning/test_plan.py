"""A plan reads the compiled program right, and knows the network, the bounds and the largest batch."""

import importlib.util
import io
import itertools
import json
import math

import pytest
from rich.console import Console

from tests.engine.test_run import train
from xlatrain.cli import plan as plans
from xlatrain.config.compose import compose_config, register_schemas
from xlatrain.engine.provenance import provenance
from xlatrain.errors import ConfigError
from xlatrain.models.flops import depthwise_modules, train_flops
from xlatrain.planning.bounds import Product, lower_bound
from xlatrain.planning.compile import _kept
from xlatrain.planning.estimate import Memory, Step, estimate
from xlatrain.planning.hlo import Shape, parse_module
from xlatrain.planning.network import Collective, collective_ms, group_axes
from xlatrain.planning.page import write_page
from xlatrain.planning.program import read_program
from xlatrain.planning.report import figures, print_estimate
from xlatrain.planning.search import largest_fitting
from xlatrain.preflight.check import check

register_schemas()

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


def an_estimate():
    plan = check(plans.with_defaults(["model=test_efficientnet", "train.global_batch=64"]))
    program = read_program(parse_module(MODULE), replicas=8)
    memory = (Memory(2**30, 2**30, 2**30, 2**29, 0), Memory(2**28, 0, 0, 0, 0))
    train, evaluation = (Step(True, m, m.total, program, 1.0) for m in memory)
    return estimate(plan, train, evaluation, parameters=7, flops=1e9, depthwise=frozenset())


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_a_plan_is_whole_on_a_terminal_of_any_width(width):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_estimate(an_estimate(), console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.startswith("  blocks.0.conv_pw  0.00") for line in lines)
    tables = itertools.takewhile(lambda line: not line.startswith("!"), lines)
    assert not any("…" in line for line in tables)
    heading = next(i for i, line in enumerate(lines) if line.startswith("most expensive ops"))
    assert ("padding" in lines[heading]) == (width == 160)
    assert any("a wider terminal also shows" in line for line in lines) == (width < 160)


def test_what_memory_consists_of_stands_under_its_step():
    rows = figures(an_estimate())
    where = [name for name, _ in rows].index("memory, train step")
    assert [name for name, _ in rows[where : where + 4]] == ["memory, train step", "", "memory, eval step", ""]
    assert rows[where][1] == "1.50 of 16.0 GiB"
    assert rows[where + 1][1] == "arguments 1.00, results 1.00, donated -1.00, temporaries 0.50, code 0.00"
    assert rows[where + 3][1] == "arguments 0.25, results 0.00, donated 0.00, temporaries 0.00, code 0.00"


def test_a_report_says_the_command_and_the_versions_that_made_it(tmp_path):
    origin = provenance(["xlatrain", "plan", "-m", "model.name=<b>,resnet18"])
    write_page([an_estimate()], [["a=1"]], origin, tmp_path / "one.html")
    page = (tmp_path / "one.html").read_text()
    assert "<code>xlatrain plan -m &#x27;model.name=&lt;b&gt;,resnet18&#x27;</code>" in page
    assert f"torch {origin['versions']['torch']}" in page


def test_padding_counts_whole_tiles():
    shape = Shape("bf16", (32, 24, 65, 65), (1, 0, 3, 2), (8, 128))
    assert shape.bytes == 32 * 24 * 65 * 65 * 2
    assert shape.padded_bytes == 32 * 128 * 65 * 65 * 2
    assert Shape("f32", (100,), (0,), (1024,)).padded_bytes == 4096


def cluster(*overrides):
    return compose_config(list(overrides))[0].cluster


def test_network_times_follow_the_alpha_beta_model():
    pod = cluster("cluster=tpu_v3_2048", "cluster.chip.hop_us=0", "cluster.chip.hbm_gb_per_s=1e9")
    size = 40_000_000
    found = collective_ms(Collective("all-reduce", size, 2048, 1), pod)
    # Each of 1,024 chips sends 2 · (n - 1) / n of the bytes over its four links.
    assert found == pytest.approx(2 * size * 1023 / 1024 / (4 * 82e9) * 1e3, rel=1e-6)
    open_ended = cluster("cluster=tpu_v3_128", "cluster.chip.hop_us=0", "cluster.chip.hbm_gb_per_s=1e9")
    half = collective_ms(Collective("all-reduce", size, 128, 1), open_ended)
    assert half == pytest.approx(2 * size * 63 / 64 / (2 * 82e9) * 1e3, rel=1e-6)
    # Latency alone: along each axis to the farthest chip and back, 16 + 16 hops on the closed torus, there and back.
    pod = cluster("cluster=tpu_v3_2048", "cluster.chip.hop_us=2")
    assert collective_ms(Collective("all-reduce", 0, 2048, 3), pod) == pytest.approx(3 * 2 * 32 * 2e-3)
    assert collective_ms(Collective("all-gather", 0, 4, 1), pod) == pytest.approx(1 * 2e-3)  # two chips
    assert collective_ms(Collective("all-gather", 0, 2, 1), pod) == 0.0  # one chip
    # A group of 64 chips on 32 x 32 is a box of 2 x 32, closed along 32; one of 4 chips a line, three hops long.
    assert group_axes(64, pod) == [(32, True), (2, False)]
    assert group_axes(4, pod) == [(4, False)]
    assert group_axes(4 * 3, pod) == [(4, False), (3, False)]
    assert collective_ms(Collective("all-gather", 0, 8, 1), pod) == pytest.approx(3 * 2e-3)
    line = cluster("cluster=tpu_v3_2048", "cluster.chip.hop_us=0", "cluster.chip.hbm_gb_per_s=1e9")
    assert collective_ms(Collective("all-gather", size, 8, 1), line) == pytest.approx(size * 3 / 4 / 82e9 * 1e3)
    assert collective_ms(Collective("all-reduce", 8, 8, 1), cluster("cluster=cpu")) is None


def test_communication_bounds_are_the_known_ones_of_products():
    memory = 2.0**20
    n = 2**14
    assert lower_bound(n, n, n, memory) == pytest.approx(n**3 / math.sqrt(memory))  # Hong and Kung's p·c·k / sqrt(M)
    assert lower_bound(2**24, 2**4, 2**12, memory) == pytest.approx(2**24 * 2**12 + 2**24 * 2**4 + 2**16)  # result once
    assert lower_bound(100, 10, 10, memory) == 100 * 10 + 10 * 10 + 100 * 10  # all fits: each value once
    for p, c, k in ((3, 5, 7), (2**20, 96, 16), (540_800, 16, 96), (2**15, 2**15, 1)):
        assert lower_bound(p, c, k, memory) >= p * c + c * k + p * k
    assert Product("", "", 100, 10, 10, 0, value_bytes=4).bound(4e6) == 4 * 2100


@pytest.mark.parametrize("limit", [0, 1, 13, 200, 777, 999])
def test_the_search_finds_the_largest_batch_to_a_sixteenth(limit):
    tried = []

    def needed(images):
        tried.append(images)
        return 1000 + 50 * images + images**2 // 50

    found = largest_fitting(needed, needed(limit), 1000, needed(1000), lambda text: None)
    assert found <= limit
    assert limit - found <= max(1, found // 16)
    assert len(tried) <= 12


def test_complaints_about_memory_are_understood():
    from xlatrain.planning.tpu_compiler import _memory_exceeded

    used = _memory_exceeded("Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded hbm by 4.75G.")
    assert used == {"hbm_bytes": 20.5 * 2**30, "hbm_capacity_bytes": 15.75 * 2**30}
    alone = _memory_exceeded(
        "RESOURCE_EXHAUSTED: Allocation (size=21474836480) would exceed memory (size=17179869184) ::"
    )
    assert alone == {"hbm_bytes": 21474836480, "hbm_capacity_bytes": 17179869184}
    assert _memory_exceeded("INVALID_ARGUMENT: no such topology") is None


def test_a_plan_is_of_imagenets_size_unless_told_otherwise():
    assert plans.with_defaults(["model=efficientnet_b0"])[:4] == [
        "data=synthetic", "augment=none", "cluster=tpu_v3_8", "train.duration=350ep"
    ]  # fmt: skip
    assert (
        plans.with_defaults(["data=digits", "train.duration=2ep", "cluster=tpu_v3_32", "augment=shift"])[0]
        == "data=digits"
    )


def test_a_missing_compiler_is_named_with_the_command_that_installs_it(monkeypatch, capsys):
    from xlatrain.cli.main import main

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["plan"]) == 2
    assert "pip install 'xlatrain[plan]'" in capsys.readouterr().err


@pytest.mark.replicas
def test_the_program_planned_is_the_program_trained(tmp_path):
    """Traced by a training run of two replicas, and by a plan for two: the same bytes."""
    overrides = ["cluster.replicas=2", "train.duration=1step", "augment.flip=true", "model.drop_path_rate=0.2"]
    summary = train(tmp_path, "hlo", *overrides, "engine.save_hlo=true")
    from pathlib import Path

    from xlatrain.xla.launch import launch

    planned = launch("xlatrain.planning.trace:trace_run", check(overrides))
    assert (Path(summary["run"]) / "train_step.hlo.pb").read_bytes() == planned.train.hlo
    assert {planned.train.parameters[p] for p in planned.train.aliases.values()} >= {"carry.params", "carry.buffers"}


COMPILER = all(importlib.util.find_spec(name) for name in ("jax", "libtpu"))


@pytest.mark.replicas
@pytest.mark.skipif(not COMPILER, reason="the extra `plan` is not installed")
def test_small_steps_compile_and_fit_on_v3_and_v5e(tmp_path, monkeypatch, capsys):
    """`plan --check` in small, then the keys that others rely on, from the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small = ["train.global_batch=64", "data.image_size=32", f"run.root={tmp_path}"]
    assert plans.plan(["--check", "--small", *small]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("yes") == 2
    arguments = ["model=test_efficientnet", "cluster=tpu_v3_8", "train.duration=1ep", *small]
    assert plans.plan(["--json", *arguments]) == 0
    captured = capsys.readouterr()
    assert "compiled before" in captured.err
    found = json.loads(captured.out)
    assert found["fits"] is True
    assert 0 < found["hbm_bytes"] < found["hbm_capacity_bytes"] == 16 * 2**30
    assert found["step_ms"] == pytest.approx(found["device_ms"] + found["network_ms"])
    assert found["images_per_second"] == pytest.approx(64e3 / found["step_ms"])
    assert 0 < found["allreduce_fraction"] < 1
    assert 0 < found["mfu"] < 1
    assert {(c["op"], c["group_size"]) for c in found["collectives"]} == {("all-reduce", 8), ("all-gather", 8)}
    assert found["hours"] > 0
    assert found["cost_usd"] == pytest.approx(found["hours"] * 4 * 2.0)
    assert any("fp32" in text for text in found["warnings"])
    reports = list(tmp_path.glob("plan-*/report.html"))
    assert len(reports) == 2
    assert "conv_stem" in reports[0].read_text()
    assert all("<code>xlatrain plan --" in report.read_text() for report in reports)
    assert found["command"].startswith("xlatrain plan --json model=test_efficientnet")
    # What is large has a name: the parts of the model, and those of the step around it.
    parts = found["ms_by_part"]
    assert {"blocks.1", "conv_stem", "images", "loss", "optimizer.SGD", "guard", "gradient.mean"} <= set(parts)
    assert parts.get("rest", 0.0) < 0.05 * found["device_ms"]
    assert sum(parts.values()) == pytest.approx(found["device_ms"])


def test_flops_are_those_of_the_model_not_of_its_form():
    """0.386 and 1.81 billion multiply-adds forward, as published; times two, and times three for training."""
    import timm

    for name, macs in (("efficientnet_b0", 0.386e9), ("resnet18", 1.814e9)):
        assert train_flops(timm.create_model(name), 224) == pytest.approx(6 * macs, rel=0.02)
    names = depthwise_modules(timm.create_model("efficientnet_b0"))
    assert "blocks.0.0.conv_dw" in names
    assert len(names) == 16


def test_a_damaged_entry_of_the_cache_is_compiled_anew(tmp_path):
    kept = tmp_path / "entry"
    kept.mkdir()
    for content in ("", '{"fits": fal', '{"fits": true}'):
        (kept / "result.json").write_text(content)
        assert _kept(kept, 8) is None
    (kept / "result.json").write_text('{"fits": false, "hbm_bytes": 7, "seconds": 1.0}')
    assert _kept(kept, 8).needed == 7


@pytest.mark.parametrize(
    ("overrides", "environment", "words"),
    [
        (["cluster.chip.name=v9"], {}, ["cluster.chip.name", "'v9'", "v2, v3"]),
        (["run.root=/proc/x"], {}, ["run.root", "/proc/x"]),
        ([], {"XDG_CACHE_HOME": "/proc/x"}, ["XDG_CACHE_HOME", "/proc/x"]),
    ],
)
@pytest.mark.skipif(not COMPILER, reason="the extra `plan` is not installed")
def test_what_would_fail_after_minutes_is_seen_before(overrides, environment, words, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error:
        plans.plan([*overrides, "cluster=tpu_v3_8"])
    assert all(word in str(error.value) for word in words)
