"""Weights that do not fit and images that a model or a memory cannot take are refused with the reason."""

import huggingface_hub
import pytest
import safetensors.torch
import timm

from tests.faults import faults_of
from xlatrain.preflight.check import check


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda path: write_weights(path, "test_resnet", 10), ["Missing key(s)", "conv_stem.weight", "10 classes"]),
        (lambda path: write_weights(path, "test_efficientnet", 7), ["size mismatch for classifier.weight", "[7, 256]"]),
        (lambda path: path.write_bytes(b"none of it"), ["Error while deserializing header"]),
        (lambda path: None, ["there is no file"]),
        (lambda path: path.mkdir(), ["there is no file"]),
    ],
    ids=["model", "classes", "bytes", "none", "folder"],
)
def test_initial_weights_that_do_not_fit_are_one_fault_with_its_cause(tmp_path, made, words):
    path = tmp_path / "w.safetensors"
    made(path)
    (fault,) = faults_of(check, [f"+model.kwargs.checkpoint_path={path}"])
    assert fault.key == "model.kwargs.checkpoint_path"
    for word in words:
        assert word in str(fault)


@pytest.mark.filterwarnings("error")
def test_initial_weights_that_fit_pass_without_a_word(tmp_path):
    write_weights(tmp_path / "w.safetensors", "test_efficientnet", 10)
    assert not faults_of(check, [f"+model.kwargs.checkpoint_path={tmp_path}/w.safetensors"])


def write_weights(path, name, classes):
    safetensors.torch.save_file(timm.create_model(name, num_classes=classes).state_dict(), path)


def test_pretrained_weights_that_cannot_be_reached_are_a_fault_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    pretrained = ["+model.kwargs.pretrained=true"]
    (fault,) = faults_of(check, pretrained)
    assert fault.key == "model.kwargs.pretrained"
    assert "http://127.0.0.1:9/timm/test_efficientnet.r160_in1k, which cannot be reached: [Errno 111]" in fault.problem
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in str(faults_of(check, pretrained)[0])
    (fault,) = faults_of(check, [*pretrained, "model.name=resnet18.nosuchtag"])
    assert "Invalid pretrained tag (nosuchtag)" in str(fault)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["model.name=densenet121", "data.image_size=8"],
            ["cannot take an image of 8 x 8", "Output size is too small"],
        ),
        (["+model.kwargs.in_chans=1"], ["cannot take an image of 32 x 32"]),
        (["+model.kwargs.features_only=true"], ["gives no 10 logits"]),
        (["data.image_size=10000000"], ["data.image_size", "1396983.9 GiB", "the memory of this machine"]),
        (["data.image_size=100000", "cluster=tpu_v3_8"], ["data.image_size", "a replica on v3 has 16 GiB", "33,842"]),
    ],
)
def test_images_that_a_model_or_a_memory_cannot_take_are_refused_with_the_reason(overrides, words):
    (fault,) = faults_of(check, overrides)
    for word in words:
        assert word in str(fault)
