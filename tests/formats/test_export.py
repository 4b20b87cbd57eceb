"""Exported weights answer as the evaluation step does, loaded as anybody would load them; else nothing is written."""

import json

import numpy as np
import pytest
import timm
import torch

from tests.nets import SMALL
from tests.weights import write_weights
from xlatrain.cli.main import main
from xlatrain.errors import DataError
from xlatrain.formats import export_weights as exports
from xlatrain.formats import onnx_file, torch_file
from xlatrain.formats.about import describe
from xlatrain.formats.check_export import check_export_of_weights
from xlatrain.formats.checked import Reference
from xlatrain.formats.export_weights import compare, export_weights
from xlatrain.formats.plain import plain_model, prepared
from xlatrain.preflight.check import check, check_evaluation
from xlatrain.xla import launch as launcher

IMAGES = np.arange(5 * 32 * 32 * 3, dtype=np.int64).reshape(5, 32, 32, 3) * 7 % 256


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", SMALL)


def reference(evaluation):
    """What a replica would say, by plain torch."""
    images = IMAGES.astype(np.uint8)
    with torch.inference_mode():
        logits = plain_model(evaluation)(torch.from_numpy(prepared(evaluation, images))).numpy()
    return Reference(images, logits)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("onnx", "m.onnx"), ("torch", "m.pt2")])
def test_files_answer_alike_for_any_number_of_images(kind, name, weights, tmp_path, monkeypatch):
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    checked = check_export_of_weights(kind, [SMALL, f"weights={weights}"], str(tmp_path / name))
    known = reference(checked.evaluation)
    monkeypatch.setattr(launcher, "launch", lambda *args, **kwargs: known)
    found = export_weights(checked)
    assert found.agrees
    assert found.largest < 1e-4
    assert (found.images, found.same_class) == (5, 5)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    module = {"onnx": onnx_file, "torch": torch_file}[kind]
    one = module.run(tmp_path / name, prepared(checked.evaluation, known.images[2:3]))
    assert np.allclose(one, known.logits[2:3], atol=1e-4)
    about = describe(checked.evaluation)
    if kind == "onnx":
        import onnx

        (prop,) = onnx.load(tmp_path / name).metadata_props
        assert (prop.key, json.loads(prop.value)) == ("xlatrain", about)
    else:
        extra = {"xlatrain.json": ""}
        torch.export.load(tmp_path / name, extra_files=extra)
        assert json.loads(extra["xlatrain.json"]) == about
    p = about["preprocessing"]
    assert (p["image_size"], p["crop_pct"], p["mean"], p["std"]) == (32, 1.0, [0.5] * 3, [0.5] * 3)
    assert about["class_names"] == list(map(str, range(10)))


@pytest.mark.one_replica
def test_a_folder_for_timm(tmp_path, monkeypatch, capsys):
    """Batch norm's epsilon is not timm's own, nor is the crop."""
    monkeypatch.chdir(tmp_path)
    own = ["model.bn_eps=0.01", "data.eval_ratio=0.875"]
    write_weights(tmp_path / "w.safetensors", *own)
    assert main(["export", "timm", "weights=w.safetensors", "out=folder"]) == 0
    said = capsys.readouterr()
    assert "from the evaluation step" in said.err
    assert "the same class for 64 of 64" in said.err
    assert "folder/config.json" in said.out
    assert {path.name for path in tmp_path.iterdir()} == {"w.safetensors", "folder"}
    model = timm.create_model(f"local-dir:{tmp_path}/folder", pretrained=True)
    assert model.bn1.eps == 0.01
    assert model.pretrained_cfg["label_names"] == list(map(str, range(10)))
    data = timm.data.resolve_model_data_config(model)
    assert tuple(data["input_size"]) == (3, 32, 32)
    assert data["crop_pct"] == pytest.approx(0.875, abs=0.02)
    assert (tuple(data["mean"]), tuple(data["std"]), data["interpolation"]) == ((0.5,) * 3, (0.5,) * 3, "bicubic")
    again = check_evaluation(["weights=folder"]).config  # what it is for others, it is here
    assert (again.model.bn_eps, again.data.eval_ratio) == (0.01, 0.875)
    assert check(["weights=folder"]).origin.new == frozenset()


@pytest.mark.one_replica
def test_stablehlo_is_run_by_jax_before_it_is_there(weights, tmp_path, monkeypatch, capsys):
    """64 images, seven at a time: the last ones are padded."""
    pytest.importorskip("jax")
    monkeypatch.chdir(tmp_path)
    assert main(["export", "stablehlo", SMALL, f"weights={weights}", "out=folder", "batch=7"]) == 0
    assert "the same class for 64 of 64" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "folder/manifest.json").read_text())
    shapes = {a["name"]: a["shape"] for a in manifest["arguments"]}
    assert shapes["images"] == [7, 3, 32, 32]
    assert shapes["parameter/head.weight"] == [10, 32]
    assert manifest["results"] == [{"dtype": "float32", "shape": [7, 10]}]
    assert manifest["xlatrain"]["preprocessing"]["image_size"] == 32


def test_an_export_that_answers_otherwise_is_not_written(weights, tmp_path, monkeypatch):
    checked = check_export_of_weights("torch", [SMALL, f"weights={weights}"], str(tmp_path / "m.pt2"))
    known = reference(checked.evaluation)
    monkeypatch.setattr(launcher, "launch", lambda *args, **kwargs: known)
    monkeypatch.setattr(torch_file, "write", lambda evaluation, path: path.write_bytes(b"half"))
    monkeypatch.setattr(torch_file, "run", lambda path, images: known.logits + 1)
    with pytest.raises(DataError, match=r"nothing was written: largest difference of 50 logits on 5 images .* 1,"):
        export_weights(checked)
    monkeypatch.setattr(torch_file, "write", lambda evaluation, path: [][1])
    with pytest.raises(DataError, match="cannot be exported: IndexError"):
        export_weights(checked)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [np.nan, 2.0])
def test_what_is_not_near_does_not_agree(wrong):
    one = np.ones((2, 3), np.float32)
    assert compare(one, one + 5e-4, "fp32").agrees
    assert not compare(one, np.where(np.eye(2, 3) > 0, wrong, one), "fp32").agrees
    assert not compare(one, one[:1], "fp32").agrees
    assert exports.in_words(compare(one, one, "fp32")).endswith("allowed 0.001; the same class for 2 of 2")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["onxx"], ["export: onxx", "timm|onnx|torch|stablehlo weights=FILE out=PATH"]),
        (["torch"], ["out: no file is named", "out=FILE.pt2", "weights: no weights are named"]),
        (["torch", "out=m.onnx", "W"], ["out: m.onnx does not end in .pt2"]),
        (["timm", "out=taken", "W"], ["out: taken is there already", "model._target_: tests.nets.Small is no model"]),
        (["torch", "out=m.pt2", "W", "batch=0"], ["batch: '0' is no number of images"]),
        (["torch", "out=m.pt2", "weights=[W,V]"], ["weights: several weights are no one model"]),
        (["torch", "out=m.pt2", "W", "cluster=tpu_v3_8"], ["cluster: an export is made and compared on the CPU"]),
        (["torch", "out=no/m.pt2", "W"], ["no is no folder that can be written to"]),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_made(arguments, words, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    given = [f"weights={weights}" if argument == "W" else argument for argument in arguments]
    assert main(["export", *given[:1], SMALL, *given[1:]]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_missing_libraries_are_named_with_the_command_that_installs_them(weights, tmp_path, monkeypatch, capsys):
    import importlib.util

    found = importlib.util.find_spec
    gone = ("onnxruntime", "onnxscript")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in gone else found(name))
    assert main(["export", "onnx", SMALL, f"weights={weights}", f"out={tmp_path}/m.onnx"]) == 2
    said = capsys.readouterr().err
    assert "onnxruntime, onnxscript not installed" in said
    assert "pip install 'xlatrain[onnx]'" in said
