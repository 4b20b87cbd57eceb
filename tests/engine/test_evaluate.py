"""Evaluation of saved weights is one number, on any replicas, of all images and no more."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

from xlatrain.data.digits import _png
from xlatrain.data.shard_format import write_shards
from xlatrain.engine import run as runs
from xlatrain.preflight.check import check_evaluation

pytestmark = pytest.mark.replicas


@pytest.mark.parametrize("replicas", [1, 3])
def test_evaluation_of_saved_weights_is_the_same_number_on_any_replicas(root, random_run, replicas):
    """Nothing but the file is named: it was trained in bf16, which is not the default."""
    overrides = [
        f"weights={random_run['run']}/weights.safetensors",
        f"cluster.replicas={replicas}",
        f"run.root={root}",
        f"run.name=eval-{replicas}",
    ]
    summary = runs.evaluate(check_evaluation(overrides))
    assert summary["eval_examples"] == 360
    assert summary["top1"] == random_run["top1"]
    assert summary["top5"] == random_run["top5"]
    assert summary["loss"] == pytest.approx(random_run["loss"], rel=1e-5)
    assert summary["replicas"] == replicas
    assert "from weights.safetensors: " in (log := (Path(summary["run"]) / "train.log").read_text())
    assert "precision.name=bf16 (else fp32)" in log
    assert summary["sha256"]["weights.safetensors"] == random_run["sha256"]["weights.safetensors"]


def test_bf16_evaluation_ranks_by_float32_logits(root, random_run, tmp_path):
    """A classifier that says 100 + k/64 for class k whatever the image. In bf16 all ten are 100, and ties count against
    the model; in float32 nines are right, and five digits in ten are in the top 5."""
    source = Path(random_run["run"]) / "weights.safetensors"
    tensors, metadata = load_file(source), safe_open(source, "pt").metadata()
    tensors["classifier.weight"] = torch.zeros_like(tensors["classifier.weight"])
    tensors["classifier.bias"] = 100 + torch.arange(10) / 64
    save_file(tensors, tmp_path / "near.safetensors", metadata)
    overrides = [f"weights={tmp_path}/near.safetensors", "cluster.replicas=1", "precision=bf16", f"run.root={root}"]
    summary = runs.evaluate(check_evaluation(overrides))
    assert summary["top1"] == pytest.approx(0.1, abs=0.01)
    assert summary["top5"] == pytest.approx(0.5, abs=0.01)
    expected = torch.logsumexp(torch.arange(10) / 64, 0).item() - 4.5 / 64
    assert summary["loss"] == pytest.approx(expected, abs=1e-3)


def test_five_images_on_eight_replicas_are_five_images(root, random_run, tmp_path):
    """Fewer images than replicas, also with worker processes: three replicas see padding alone."""
    samples = [(f"{i}", "png", _png(load_digits().images[i]), i) for i in range(5)]
    for split in ("train", "val"):
        write_shards(tmp_path / split, samples, [str(i) for i in range(10)])
    found = {}
    for replicas, workers in ((8, 2), (1, 0)):
        overrides = [
            "data=shards", f"data.root={tmp_path}", f"data.workers={workers}",
            f"weights={random_run['run']}/weights.safetensors", f"cluster.replicas={replicas}", "train.global_batch=8",
            f"run.root={root}", f"run.name=five-{replicas}",
        ]  # fmt: skip
        found[replicas] = runs.evaluate(check_evaluation(overrides))
    assert found[8]["eval_examples"] == found[1]["eval_examples"] == 5
    assert found[8]["top1"] == found[1]["top1"]
    assert found[8]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)
