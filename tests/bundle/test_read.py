"""A bundle is read whole or not at all: what is wrong with one is named."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.bundle.small import write_small_bundle
from xlatrain.bundle.read import read_bundle
from xlatrain.engine.weights import sha256
from xlatrain.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path):
    write_small_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def change(folder, **parts):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))


def test_a_bundle_is_read_as_it_was_written(folder):
    bundle = read_bundle(folder)
    assert bundle.programs == {"train": b"a program"}
    assert bundle.tensors["train"]["seeds"].tolist() == [7, 2**60 + 1]
    step = bundle.manifest.steps["train"]
    assert step.aliases == {0: 0}
    assert [a.source for a in step.arguments] == ["state", "table", "batch", "seed"]
    assert bundle.manifest.as_dict() == write_small_bundle(folder / "again")


def test_weights_are_found_in_the_state(folder):
    bundle = read_bundle(folder)
    found = bundle.weights({})
    assert found["bias"].tolist() == [1]
    assert found["kernel"].shape == (2, 1, 1, 3)  # [h, w, I, O] = [1, 3, 1, 2] to [O, I, h, w]
    assert found["kernel"].reshape(2, 3).tolist() == [[2, 4, 6], [3, 5, 7]]
    trained = bundle.weights({"carry.params": np.full(8, 9, np.float32)})
    assert set(trained["kernel"].flatten()) == {9}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"format": "something"}, ["manifest.json is not of an xlatrain bundle", "xlatrain export step out=FOLDER"]),
        ({"version": 2}, ["is of version 2, this xlatrain reads 1", "export it again"]),
    ],
)
def test_another_format_is_a_fault_with_a_cure(folder, parts, words):
    change(folder, **parts)
    with pytest.raises(ConfigError) as error:
        read_bundle(folder)
    assert all(word in str(error.value) for word in words)


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no .*manifest\.json"):
        read_bundle(tmp_path)


def test_a_damaged_or_missing_file_is_named(folder):
    (folder / "train.stablehlo").write_bytes(b"a progrem")
    with pytest.raises(DataError, match=r"train\.stablehlo has SHA-256 .*, the manifest says"):
        read_bundle(folder)
    (folder / "train.stablehlo").unlink()
    with pytest.raises(DataError, match=r"train\.stablehlo is missing"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("content", "words"), [('{"format": "xlatr', "manifest.json: "), ({"replicas": None}, "lacks or misnames")]
)
def test_a_damaged_manifest_is_named(folder, content, words):
    path = folder / "manifest.json"
    if isinstance(content, dict):
        manifest = json.loads(path.read_text())
        content = json.dumps({key: value for key, value in manifest.items() if key not in content})
    path.write_text(content)
    with pytest.raises(DataError, match=words):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("inputs.lr", None, "train.safetensors has no inputs.lr"),
        ("inputs.lr", np.ones(5, np.float32), r"inputs.lr is float32\[5\], the program takes float32\[4\]"),
        ("inputs.lr", np.ones(4), r"inputs.lr is float64\[4\]"),
        ("seeds", np.ones(3, np.int64), r"seeds in train.safetensors are not int64\[2\]"),
    ],
)
def test_tensors_that_do_not_fit_the_program_are_named(folder, name, tensor, words):
    tensors = load_file(folder / "train.safetensors")
    del tensors[name]
    save_file(tensors | ({} if tensor is None else {name: tensor}), folder / "train.safetensors")
    files = json.loads((folder / "manifest.json").read_text())["files"]
    change(folder, files=files | {"train.safetensors": sha256(folder / "train.safetensors")})
    with pytest.raises(DataError, match=words):
        read_bundle(folder)


def test_an_argument_from_nowhere_is_named(folder):
    steps = json.loads((folder / "manifest.json").read_text())["steps"]
    steps["train"]["arguments"][2]["source"] = "carry.ema_params"
    change(folder, steps=steps)
    with pytest.raises(DataError, match="inputs.labels comes from carry.ema_params, which the train step does not"):
        read_bundle(folder)
