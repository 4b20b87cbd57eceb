"""Steps of a run are captured where they were asked for, on both runtimes, and their ops know their modules."""

import gzip
import json
import re
from pathlib import Path

import pytest

from tests.faults import faults_of
from tests.nets import PLAIN
from tests.runs import train
from xlatrain.engine import profile
from xlatrain.engine.profile import Profiler
from xlatrain.preflight.check import check
from xlatrain.preflight.profile import profiled_steps
from xlatrain.xla.xspace import Op, read_ops

SHORT = ["train.duration=6step", "cluster.replicas=2", "train.global_batch=16", "logger=none", "augment=none"]


@pytest.mark.parametrize(
    ("value", "problem", "cure"),
    [
        ("5", "'5' is not STEP:COUNT", "engine.profile=20:3"),
        ("0:3", "'0:3' is not STEP:COUNT", "from 1 on"),
        ("3:0", "'3:0' is not STEP:COUNT", "from 1 on"),
        ("a:b", "'a:b' is not STEP:COUNT", "from 1 on"),
        ("5:3", "step 7 is past the end: the run has 6 steps", "take steps from 1 to 6"),
        ("7:1", "step 7 is past the end", "take steps from 1 to 6"),
    ],
)
def test_what_is_spelt_otherwise_or_past_the_end_is_a_fault(value, problem, cure):
    (fault,) = faults_of(check, [f"engine.profile='{value}'", *SHORT])
    assert (fault.key, problem in fault.problem, cure in fault.cure) == ("engine.profile", True, True), fault


def test_the_last_step_can_be_captured_and_none_is_where_none_was_asked_for():
    assert profiled_steps(check([*SHORT, "engine.profile=6:1"]).config.engine) == range(6, 7)
    assert not profiled_steps(check(SHORT).config.engine)


@pytest.mark.replicas
@pytest.mark.usefixtures("cold")  # torch_xla looks when it is imported whether ops are to know their modules
@pytest.mark.parametrize("runtime", ["torch_xla", "jax"])
def test_a_run_leaves_a_profile_and_its_dearest_ops_by_module(tmp_path, runtime):
    if runtime == "jax":
        pytest.importorskip("jax")
    summary = train(tmp_path, "p", PLAIN, *SHORT, f"engine.runtime={runtime}", "engine.profile=3:2")
    folder = Path(summary["run"]) / "profile"
    (space,) = folder.glob("plugins/profile/*/*.xplane.pb")  # where TensorBoard's profiler looks
    (trace,) = folder.glob("plugins/profile/*/*.trace.json.gz")  # what Perfetto opens
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert any(event.get("args", {}).get("hlo_op") for event in events)
    table = json.loads((folder / "ops.json").read_text())
    assert (table["first_step"], table["last_step"], table["replicas"]) == (3, 4, 2)
    modules = {op["scope"] for op in table["ops"]}
    assert {"body.0", "body.3"} <= modules  # its convolutions, forward or backward
    assert any(scope.startswith("optimizer.") for scope in modules)
    ops = read_ops(space)
    assert [op.ms for op in ops] == sorted((op.ms for op in ops), reverse=True)
    products = [op for op in ops if op.name.startswith(("convolution", "dot"))]  # which XLA:CPU writes anew, nameless
    assert {op.scope for op in products} <= {"body.0", "body.3", "head", ""}
    assert sum(op.ms for op in products if op.scope) > 0.5 * sum(op.ms for op in products)
    dear = next(op for op in ops if op.scope == "body.3" and "conv" in op.operation)
    assert dear.calls % 4 == 0  # two steps of two replicas, each whole
    log = (Path(summary["run"]) / "train.log").read_text()
    assert re.search(r"profile of steps 3 to 4 in profile/plugins/profile/\S+xplane.pb", log)
    assert re.search(r"module +op +ms +share", log)
    assert summary["compiles"]["train"] in (0, 1)  # and no step was compiled for it anew
    assert summary["spent"]["saving"] > 0


class Alone:
    """A replica that is the first of one, whose profiler does as it is told."""

    is_first, local_count = True, 1

    def __init__(self, fails):
        self.fails = fails

    def barrier(self):
        pass

    def profiled(self, folder):
        raise RuntimeError(self.fails)


def test_a_profile_that_fails_is_said_and_the_run_goes_on(tmp_path):
    said = []
    profiler = Profiler(Alone("no\nprofiler here"), range(3, 5), tmp_path, said.append)
    assert [profiler.begins(n) for n in (2, 3, 4)] == [False, True, False]
    profiler.begin(3)
    assert (profiler.is_open, profiler.ends(3), profiler.ends(4)) == (True, False, True)
    profiler.end(4)
    assert not profiler.is_open
    assert said == ["warning: no profile: no profiler here"]


def test_the_table_names_ten_ops_and_their_share():
    ops = [Op("blocks.0", "convolution", "fusion.1", 6.0, 2), *(Op("", "copy", f"copy.{i}", 0.3, 2) for i in range(20))]
    lines = profile.shown(ops, parts=4)
    assert len(lines) == 11
    assert lines[1].split() == ["blocks.0", "convolution", "1.500", "50.0%"]
    assert lines[2].split() == ["(compiler)", "copy", "0.075", "2.5%"]


@pytest.mark.parametrize("content", [b"no profile", b"\x0a\xff\xff\xff\xff\x0f"])
def test_a_file_that_is_no_profile_is_an_error(tmp_path, content):
    (tmp_path / "x.xplane.pb").write_bytes(content)
    with pytest.raises(ValueError, match="not a profile"):
        read_ops(tmp_path / "x.xplane.pb")
