"""What is frozen does not move, the head moves first, and a run that starts from weights is a run like any other."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.nets import SMALL, Small
from tests.runs import losses, train
from xlatrain.bundle.export import export
from xlatrain.config.choices import groups
from xlatrain.engine.state import model_layout
from xlatrain.errors import ReplicaError
from xlatrain.models.layers import find_frozen
from xlatrain.preflight.check import check
from xlatrain.preflight.origin import find_origin, read_origin
from xlatrain.xla.launch import launch

FROZEN = ["body.0", "body.1"]
STILL = {"body.0.weight", "body.1.weight", "body.1.bias", "body.1.running_mean", "body.1.running_var"}
HEAD = {"head.weight", "head.bias"}


def first_weights(path):
    """Of seven classes, with statistics that no run begins with."""
    torch.manual_seed(3)
    model = Small(7)
    for module in model.body:
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    save_file(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    path = first_weights(tmp_path_factory.mktemp("first") / "w.safetensors")
    return [
        SMALL, f"weights={path}", f"finetune.freeze=[{','.join(FROZEN)}]", "finetune.head_first=4step", "ema=on",
        "train.duration=8step", "train.log_every=1step", "train.eval_every=8step", "train.global_batch=48",
        "cluster.replicas=3", "model.sync_bn_group=local", "optimizer.weight_decay=0.1", "schedule.warmup=0step",
    ]  # fmt: skip


@pytest.mark.one_replica
def test_with_every_optimizer_what_is_frozen_or_waits_does_not_move(options):
    """By three steps, of which the head takes the first two alone."""
    common = [*options[:3], "finetune.head_first=2step", "train.global_batch=16", "cluster.replicas=1"]
    common += ["train.duration=3step", "schedule.warmup=0step"]
    runs = {o: check([*common, f"optimizer={o}", "optimizer.weight_decay=0.1"]) for o in groups()["optimizer"]}
    runs["own"] = check([*common, "optimizer._target_=examples.lion.Lion"])
    found = launch("tests.replica_jobs:run_finetune_steps", runs, replicas=1)
    layout = model_layout(Small(10), still=find_frozen(Small(10), FROZEN))
    assert set(layout.fixed.names) == STILL
    before = load_file(options[1].removeprefix("weights="))
    for name, (states, compiles) in found.items():
        assert compiles == 1, name
        for state in states:
            for tensor, value in layout.fixed.unpack(state["fixed"]).items():
                assert torch.equal(value, before[tensor]), (name, tensor)
        slots = [key for key in states[0] if key.startswith("slots/")]
        for key in ("params", "ema_params", *slots):
            parts = [layout.parameters.unpack(state[key]) for state in states]
            for tensor in layout.parameters.names:
                moved = [not torch.equal(parts[0][tensor], part[tensor]) for part in parts[1:]]
                assert moved == ([True] * 3 if tensor in HEAD else [False, False, True]), (name, key, tensor)
        assert not torch.equal(states[0]["buffers"], states[1]["buffers"])  # of what is not frozen


@pytest.fixture(scope="module")
def whole(root, options):
    return train(root, "tuned", *options)


@pytest.mark.replicas
def test_a_run_from_weights_takes_them_and_leaves_what_is_frozen_in_its_files(whole, options):
    assert whole["compiles"] == {"train": 1, "eval": 1}
    before = load_file(options[1].removeprefix("weights="))
    for file in ("weights.safetensors", "weights_raw.safetensors"):
        after = load_file(Path(whole["run"]) / file)
        assert set(after) == set(Small(10).state_dict())
        assert {n for n in STILL if torch.equal(after[n], before[n])} == STILL
        assert not torch.equal(after["body.3.weight"], before["body.3.weight"])
        assert after["head.weight"].shape == (10, 32)
    log = (Path(whole["run"]) / "train.log").read_text()
    assert "starts from" in log
    assert "new: head.weight, head.bias (7 classes there, 10 here)" in log


@pytest.mark.replicas
def test_a_run_that_stopped_goes_on_from_its_checkpoint_when_its_first_weights_are_gone(root, whole, options, tmp_path):
    path = shutil.copy(options[1].removeprefix("weights="), tmp_path / "w.safetensors")
    own = [f"weights={path}" if o.startswith("weights=") else o for o in options]
    with pytest.raises(ReplicaError, match="rehearsed failure"):
        train(root, "stopped-tuned", *own, "checkpoint.every=3step", "engine.fail_replica=0", "engine.fail_step=5")
    Path(path).unlink()
    summary = train(root, "stopped-tuned", *own, "checkpoint.every=3step")
    assert summary["resumed_from_step"] == 3
    assert losses(summary) == losses(whole)
    assert summary["sha256"] == whole["sha256"]


@pytest.mark.replicas
def test_jax_trains_the_same(root, whole, options):
    summary = train(root, "jax-tuned", *options, "engine.runtime=jax")
    assert losses(summary) == pytest.approx(losses(whole), rel=1e-5)
    before, after = map(load_file, (options[1].removeprefix("weights="), Path(summary["run"]) / "weights.safetensors"))
    assert {n for n in STILL if torch.equal(after[n], before[n])} == STILL


@pytest.mark.replicas
def test_a_bundle_begins_with_the_weights_and_is_begun_from(whole, options, tmp_path):
    export(check(options, starts=False), tmp_path / "bundle")
    places = tmp_path / "bundle", options[1].partition("=")[2]
    found, before = (read_origin(find_origin(str(place), "runs")) for place in places)
    for name, tensor in before.items():
        if name not in HEAD and "num_batches" not in name:
            assert torch.equal(found[name], tensor), name
    again = check([SMALL, f"weights={tmp_path}/bundle"])
    assert again.origin.new == frozenset()
    assert check([SMALL, f"weights={whole['run']}"]).origin.file.name == "weights.safetensors"
    notes = check([SMALL, f"weights={whole['run']}/checkpoints"]).notes
    assert any("a checkpoint of step 8, the average" in note for note in notes)
