"""A plan reads the compiled program right, and knows the network, the bounds and the largest batch."""

import importlib.util
import json

import pytest

from tests.nets import SMALL
from tests.runs import train
from xlatrain.bundle.export import check_export
from xlatrain.cli import plan as plans
from xlatrain.errors import ConfigError
from xlatrain.planning.compile import _kept
from xlatrain.planning.plan import check_plan
from xlatrain.planning.search import largest_fitting
from xlatrain.preflight.check import check


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


def test_a_slice_of_several_machines_is_planned_and_exported_without_naming_them(tmp_path):
    """By JAX's runtime too, which would have to be told of them to start."""
    overrides = ["engine.runtime=jax", "cluster=tpu_v3_32", "train.global_batch=64"]
    for run in (check_plan(overrides), check_export(overrides, tmp_path / "bundle")):
        assert (run.config.cluster.hosts, run.config.cluster.host) == (4, None)


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

    planned = launch("xlatrain.planning.trace_run:trace_run", check(overrides))
    assert (Path(summary["run"]) / "train_step.hlo.pb").read_bytes() == planned.train.hlo
    assert {planned.train.parameters[p] for p in planned.train.aliases.values()} >= {"carry.params", "carry.buffers"}


COMPILER = all(importlib.util.find_spec(name) for name in ("jax", "libtpu"))


@pytest.mark.one_replica
@pytest.mark.usefixtures("cold")  # names of modules are in the program where the environment asks torch_xla for them
@pytest.mark.skipif(not COMPILER, reason="the extra `plan` is not installed")
def test_small_steps_compile_and_fit_on_v3_and_v5e(tmp_path, monkeypatch, capsys):
    """One for each chip; then the keys that others rely on, from the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small = ["train.global_batch=64", "data.image_size=32", f"run.root={tmp_path}"]
    assert plans.plan(["--json", SMALL, "cluster=tpu_v5e_8", "train.duration=1ep", *small]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] is True
    arguments = ["model=test_efficientnet", "cluster=tpu_v3_8", "train.duration=1ep", *small]
    assert plans.plan(["--json", *arguments]) == 0
    assert "compiled before" not in capsys.readouterr().err
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
    assert len(reports) == 3
    assert any("conv_stem" in report.read_text() for report in reports)
    assert all("<code>xlatrain plan --" in report.read_text() for report in reports)
    assert found["command"].startswith("xlatrain plan --json model=test_efficientnet")
    # What is large has a name: the parts of the model, and those of the step around it.
    parts = found["ms_by_part"]
    assert {"blocks.1", "conv_stem", "images", "loss", "optimizer.SGD", "guard", "gradient.mean"} <= set(parts)
    assert parts.get("rest", 0.0) < 0.05 * found["device_ms"]
    assert sum(parts.values()) == pytest.approx(found["device_ms"])


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
