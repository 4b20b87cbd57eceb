"""`xlatrain export` names what is wrong before it starts anything, and leaves nothing of what failed."""

import importlib.util
import json

import pytest

from xlatrain.bundle.read import read_bundle
from xlatrain.cli.main import main
from xlatrain.errors import ReplicaError
from xlatrain.xla import launch as launcher

ONE = ["cluster.replicas=1", "train.global_batch=8", "train.duration=2step"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["nothing to export", "write xlatrain export step out=FOLDER"]),
        (["steps"], ["export: steps", "write xlatrain export step"]),
        (["step"], ["out: no folder is named", "out=FOLDER"]),
        (["step", "out="], ["out: no folder is named"]),
        (["step", "out=full", "train.globl_batch=3"], ["full is not empty", "train.globl_batch"]),
        (["step", "out=full/file"], ["is a file"]),
        (["step", "out=/proc/x"], ["/proc/x cannot be written", "a folder of yours"]),
        (["step", "out=new", "augment.sizes=[{until: 1ep, size: 16}, {size: 32}]"], ["augment.sizes", "one size"]),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_made(arguments, words, tmp_path, monkeypatch, capsys):
    pytest.importorskip("jax")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(["export", *arguments]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_missing_libraries_are_named_with_the_command_that_installs_them(monkeypatch, tmp_path, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jaxlib" else found(name))
    assert main(["export", "step", f"out={tmp_path / 'bundle'}"]) == 2
    said = capsys.readouterr().err
    assert "jaxlib not installed" in said
    assert "pip install 'xlatrain[jax]'" in said


@pytest.mark.parametrize("there", [True, False])
def test_an_export_that_fails_leaves_nothing(there, tmp_path, monkeypatch):
    pytest.importorskip("jax")
    folder = tmp_path / "bundle"
    if there:
        folder.mkdir()

    def launch(target, run, folder):
        (folder / "train.stablehlo").touch()
        raise ReplicaError("replica 0 failed")

    monkeypatch.setattr(launcher, "launch", launch)
    assert main(["export", "step", f"out={folder}"]) == 1
    assert not (folder.exists() and list(folder.iterdir()))
    assert folder.exists() == there


@pytest.mark.one_replica
@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["ema=off", "gradient=bf16", "gradient.report_error=true"], {"train", "eval"}),
        (
            ["cluster=tpu_v3_8", "cluster.replicas=8", "train.global_batch=64", "model.sync_bn_group=4"],
            {"train", "eval", "statistics"},
        ),
    ],
    ids=["gradient", "tpu"],
)
def test_other_runs_are_exported_and_read(overrides, names, tmp_path, monkeypatch, capsys):
    pytest.importorskip("jax")
    monkeypatch.chdir(tmp_path)
    assert main(["export", "step", "out=bundle", *ONE, *overrides]) == 0
    bundle = read_bundle("bundle")
    assert set(bundle.programs) == names
    assert set(bundle.weights({})) == {weight.name for weight in bundle.manifest.weights}
    written = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert written == {*bundle.manifest.files, "manifest.json"}
    said = capsys.readouterr().out
    assert all(f"bundle/{name}  " in said for name in written)
    (metrics,) = [r.result for r in bundle.manifest.steps["train"].results if r.name == "outputs.metrics"]
    assert isinstance(metrics, int)
    assert json.loads((tmp_path / "bundle/manifest.json").read_text())["replicas"] == bundle.manifest.replicas
