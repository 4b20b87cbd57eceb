"""Weights to start from: found in every form, taken as far as they fit, and refused with the reason."""

import json

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch

from tests.faults import faults_of
from xlatrain.checkpoint.tensors import checksum
from xlatrain.engine.state import model_layout
from xlatrain.models.create import build_model
from xlatrain.preflight import finetune
from xlatrain.preflight.check import check, check_evaluation
from xlatrain.preflight.facts import Facts
from xlatrain.preflight.origin import find_origin, read_origin, take_weights


def write(path, name="test_efficientnet", classes=10, facts=None, seed=7, **arguments):
    torch.manual_seed(seed)
    model = timm.create_model(name, num_classes=classes, **arguments)
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(model.state_dict(), path, {"xlatrain": facts.to_json()} if facts else None)
    return model


def facts_of(classes, **options):
    return Facts(False, None, {"model.name": "test_efficientnet", **options}, classes, "shapes", {})


def taken(overrides):
    """What a run says of its beginning, its model before and after it has taken its weights, and what it takes."""
    run = check(overrides)
    model = build_model(run.config.model, 10, run.config.data.image_size, seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    take_weights(model, run.origin)
    return "\n".join(run.notes), before, model.state_dict(), read_origin(run.origin)


def test_weights_of_other_classes_are_taken_but_for_the_head(tmp_path):
    write(tmp_path / "w.safetensors", classes=7)
    notes, before, after, there = taken([f"weights={tmp_path}/w.safetensors"])
    new = {"classifier.weight", "classifier.bias"}
    assert "new: classifier.weight, classifier.bias (7 classes there, 10 here)" in notes
    assert f"taken: {len(after) - 2 - sum('num_batches' in n for n in after)} tensors" in notes
    for name, tensor in after.items():
        if "num_batches" not in name:
            assert torch.equal(tensor, before[name] if name in new else there[name]), name


def test_the_jobs_of_a_sweep_hash_their_weights_once_and_again_where_they_changed(tmp_path, monkeypatch):
    write(path := tmp_path / "w.safetensors")
    hashed = []
    monkeypatch.setattr(finetune, "checksum", lambda file: hashed.append(file.name) or checksum(file))
    first, second = (check([f"weights={path}", f"train.seed={seed}"]).notes for seed in (0, 1))
    assert (first, len(hashed)) == (second, 1)
    write(path, seed=8)
    assert check([f"weights={path}"]).notes != first
    assert len(hashed) == 2


def test_a_head_of_as_many_classes_is_taken_unless_they_are_known_to_be_others(tmp_path):
    path = tmp_path / "w.safetensors"
    digits = tuple(str(i) for i in range(10))
    for facts, options, new in (
        (None, [], False),
        (facts_of(digits), [], False),
        (facts_of(tuple("abcdefghij")), [], True),
        (facts_of(tuple("abcdefghij")), ["finetune.head=keep"], False),
        (facts_of(digits), ["finetune.head=new"], True),
    ):
        write(path, facts=facts)
        run = check([f"weights={path}", *options])
        assert ({"classifier.weight", "classifier.bias"} == run.origin.new) is new, options
        assert ("  new: " in "\n".join(run.notes)) is new
    assert "new: classifier.weight, classifier.bias (asked for)" in "\n".join(run.notes)


def test_positions_are_resampled_for_other_images(tmp_path):
    write(tmp_path / "w.safetensors", "test_vit", img_size=64)
    notes, _, after, there = taken([f"weights={tmp_path}/w.safetensors", "model.name=test_vit", "data.image_size=32"])
    assert "resized: pos_embed from [1, 17, 64] to [1, 5, 64]" in notes
    assert torch.equal(after["pos_embed"][:, 0], there["pos_embed"][:, 0])  # of no place
    expected = timm.layers.resample_abs_pos_embed(there["pos_embed"], new_size=[2, 2], num_prefix_tokens=1)
    assert torch.equal(after["pos_embed"], expected)


def test_folders_of_a_run_and_of_timm_are_known_by_what_lies_in_them(tmp_path):
    model = write(tmp_path / "run" / "weights.safetensors")
    write(tmp_path / "hub" / "model.safetensors")
    for name, root in ((str(tmp_path / "run"), "runs"), (str(tmp_path / "hub"), "runs"), ("run", str(tmp_path))):
        found = read_origin(find_origin(name, root))
        assert torch.equal(found["conv_stem.weight"], model.conv_stem.weight)


def test_a_checkpoint_gives_its_average_and_the_mean_of_statistics(tmp_path):
    """Of any groups: rows of statistics are averaged, as they are where a run goes on with other groups."""
    from xlatrain.checkpoint.store import LocalStore
    from xlatrain.checkpoint.write import write_checkpoint

    model = write(tmp_path / "other.safetensors")
    layout = model_layout(model)
    weights = layout.pack(model.state_dict())
    two = torch.stack([weights.buffers - 0.5, weights.buffers + 0.5])
    state = {"params": 0 * weights.params, "buffers": two, "ema_params": weights.params, "ema_buffers": two}
    facts = {"layout": {name: part.places() for name, part in layout.parts}}
    write_checkpoint(LocalStore(tmp_path / "run" / "checkpoints"), 12, dict(state), facts)
    newest = tmp_path / "run" / "checkpoints" / "step-000000012"
    for place in (tmp_path / "run", tmp_path / "run" / "checkpoints", newest, newest / "state.safetensors"):
        origin = find_origin(str(place), "runs")
        assert origin.kind == "a checkpoint of step 12, the average"
        found = read_origin(origin)
        for name, tensor in model.state_dict().items():
            if "num_batches" not in name:
                torch.testing.assert_close(found[name], tensor)
    tensors = newest / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\1")
    for place, words in ((newest, "SHA-256 does not fit"), (tmp_path / "run", "none is sound")):
        (fault,) = faults_of(check, [f"weights={place}"])
        assert (fault.key, words in fault.problem) == ("weights", True)


def test_weights_of_another_model_are_refused_with_how_many_tensors_fit(tmp_path):
    path = tmp_path / "w.safetensors"
    write(path, "test_resnet")
    (fault,) = faults_of(check, [f"weights={path}"])
    assert "is of another model: 0 of" in fault.problem
    assert "fit; conv_stem.weight is not in it" in fault.problem
    write(path, "test_resnet", facts=facts_of((), **{"model.name": "test_resnet"}))
    (fault,) = faults_of(check, [f"weights={path}"])
    assert "model.name=test_resnet" in fault.cure
    tensors = write(path).state_dict()
    safetensors.torch.save_file({**tensors, "blocks.9.0.conv_pw.weight": torch.zeros(1)}, path)
    (fault,) = faults_of(check, [f"weights={path}"])  # a part of a deeper model would fit, and mean nothing
    assert "75 of 76 tensors fit; blocks.9.0.conv_pw.weight is not in the model" in fault.problem


@pytest.mark.parametrize(
    ("made", "overrides", "key", "words"),
    [
        (None, [], "weights", "there is no file or folder"),
        (lambda p: p.write_bytes(b"none of it"), [], "weights", "cannot be read"),
        (lambda p: ((p / "heartbeats").mkdir(parents=True), (p / "config.yaml").touch()), [], "weights", "nothing yet"),
        (lambda p: p.mkdir(), [], "weights", "holds no weights that are known here"),
        (lambda p: (p.mkdir(), (p / "manifest.json").write_text("{}")), [], "weights", "is of no xlatrain bundle"),
        (lambda p: (p.mkdir(), (p / "manifest.json").write_text("[")), [], "weights", "cannot be used"),
        (write, ["model.pretrained=true"], "weights", "two beginnings"),
        (write, ["+model.kwargs.pretrained=true"], "model.kwargs", "leave them out"),
        (lambda p: write(p, classes=7), ["finetune.head=keep"], "finetune.head", "no head that fits"),
        (write, ["finetune.head=other"], "finetune.head", "'other' is not one of auto, keep, new"),
    ],
)
def test_what_cannot_be_started_from_is_a_fault(tmp_path, made, overrides, key, words):
    path = tmp_path / "w"
    if made:
        made(path)
    found = [f for f in faults_of(check, [f"weights={path}", *overrides]) if f.key == key]
    assert len(found) == 1
    assert words in str(found[0])


def test_a_bundle_that_names_files_elsewhere_is_refused(tmp_path):
    content = {"format": "xlatrain bundle", "steps": {"train": {"tensors": "../secret"}}, "weights": []}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    (fault,) = faults_of(check, [f"weights={tmp_path}"])
    assert "is no file of its folder" in fault.problem


def test_a_run_that_has_checkpoints_goes_on_without_its_first_weights(tmp_path):
    (tmp_path / "mine" / "checkpoints" / "step-000000003").mkdir(parents=True)
    run = check(["weights=/nowhere", f"run.root={tmp_path}", "run.name=mine"])
    assert run.origin is None
    assert "weights is not read: mine has checkpoints, and goes on from them" in run.notes
    assert faults_of(check, ["weights=/nowhere", f"run.root={tmp_path}", "run.name=mine", "run.resume=never"])


@pytest.mark.slow
def test_pretrained_weights_are_taken_from_the_folder_that_is_named_where_there_is_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    (fault,) = faults_of(check, ["model.pretrained=true"])
    assert fault.key == "model.pretrained"
    assert "http://127.0.0.1:9/timm/test_efficientnet.r160_in1k, which cannot be reached" in fault.problem
    place = tmp_path / "xlatrain" / "pretrained" / "test_efficientnet.r160_in1k.safetensors"
    assert f"put it here as {place}" in fault.cure
    write(place, classes=1000)
    run = check(["model.pretrained=true", "data.mean=[0,0,0]"])
    notes = "\n".join(run.notes)
    assert "timm's weights" in notes
    assert "(1,000 classes there, 10 here)" in notes
    assert "warning: the weights were made for data.mean=[0.5, 0.5, 0.5]" in notes or "data.mean=[0.485" in notes
    (fault,) = faults_of(check, ["model.pretrained=true", "model.name=resnet10t.nosuch"])
    assert "nosuch" in fault.problem


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        (["finetune.freeze=[stem,blks.1]"], "finetune.freeze", "the model has no 'blks.1'; the nearest are blocks.1"),
        (["finetune.freeze=[body,classifier]"], "finetune.freeze", "nothing is left to train"),
        (["finetune.head_first=20ep"], "finetune.head_first", "only the head would move"),
        (["finetune.head_first=2epochs"], "finetune.head_first", "'2epochs' is not a duration"),
        (["finetune.head_first=1ep", "finetune.freeze=[body]"], "finetune.head_first", "all but the head is frozen"),
        (["finetune.head_first=1ep", "finetune.freeze=[classifier]"], "finetune.head_first", "no head that moves"),
        (["optimizer.layer_decay=0"], "optimizer.layer_decay", "out of range"),
        (["model._target_=tests.nets.Small", "optimizer.layer_decay=0.7"], "optimizer.layer_decay", "one layer"),
        (["model._target_=tests.nets.Small", "model.pretrained=true"], "model.pretrained", "weights=FILE"),
        (["weights=[a,b]"], "weights", "a run starts from one"),
    ],
)
def test_movement_that_cannot_be_is_one_fault(overrides, key, words):
    (fault,) = faults_of(check, overrides)
    assert fault.key == key
    assert words in str(fault)


def test_what_is_frozen_is_none_of_an_evaluations_business(tmp_path):
    write(tmp_path / "w.safetensors")
    evaluation = check_evaluation([f"weights={tmp_path}/w.safetensors", "finetune.freeze=[body]"])
    assert evaluation.config.finetune.freeze == []


def test_what_moves_is_said():
    run = check(["finetune.freeze=[stem,stage1]", "optimizer.layer_decay=0.7", "finetune.head_first=2ep"])
    frozen, rates, head = run.notes[-3:]
    assert frozen.startswith("frozen: 6 tensors of 49 with ")
    assert frozen.endswith("and the statistics of 2 batch norms")
    assert rates.startswith("layer-wise rates: 7 layers, from 0.118 to 1")
    assert head == "the head moves alone for 22 steps: classifier.bias, classifier.weight"
