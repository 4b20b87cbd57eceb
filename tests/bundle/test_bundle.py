"""A bundle trains by JAX alone as xlatrain trains; what is wrong with one, or with a command, is named."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.runs import lines, train
from xlatrain.bundle.export import export
from xlatrain.bundle.read import read_bundle
from xlatrain.data.order import Position
from xlatrain.data.phase import Place
from xlatrain.preflight.check import check
from xlatrain.xla.stablehlo import to_portable

pytest.importorskip("jax")

STEPS = 6
# Everything random, statistics of each replica's own, an average: what a bundle may get wrong.
OVERRIDES = [
    "cluster.replicas=2",
    "train.global_batch=64",
    f"train.duration={STEPS}step",
    "train.log_every=1step",
    "train.seed=3",
    "augment=shift_flip",
    "model.drop_path_rate=0.1",
    "model.sync_bn_group=1",
    "schedule.warmup=2step",
]
# Runs a program as one would who has neither.
WITHOUT = "import runpy, sys; sys.modules |= dict.fromkeys(['torch', 'torch_xla', 'xlatrain']); del sys.argv[0]; \
runpy.run_path(sys.argv[0], run_name='__main__')"


def save(path, batches):
    np.savez(path, **{name: np.stack([batch[name].numpy() for batch in batches]) for name in batches[0]})


def run_bundle(folder, *files):
    """What the program of folder/bundle says."""
    command = [sys.executable, "-c", WITHOUT, "bundle/run.py", *files]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}  # whatever the bundle is for
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.replicas
def test_a_bundle_trains_and_evaluates_as_the_run_does(tmp_path):
    """A bundle for GPUs, of which there need not be one, run on CPU, as the run there with the GPU's convolutions.
    2e-5 relative: another release of XLA's compiler, which sums in another order, over six steps (the demo's first
    six were within 5e-6). The loss of an evaluation is of weights alone, each moved a little differently: 5e-4."""
    run = check([*OVERRIDES, "cluster=gpu"], starts=False)
    export(run, tmp_path / "bundle")
    place = Place(0, 1)
    batches = run.dataset.train.train_batches(place, run.config.train.seed, run.phases, Position())
    save(tmp_path / "train.npz", [{k: t.clone() for k, t in next(batches).items()} for _ in range(STEPS)])
    batches = run.dataset.val.eval_batches(place, run.evaluation.batch)
    save(tmp_path / "eval.npz", [{k: t.clone() for k, t in batch.items()} for batch in batches])
    *steps, evaluation = run_bundle(tmp_path, "train.npz", "eval.npz")

    summary = train(tmp_path, "run", *OVERRIDES, "model.depthwise=native", "engine.save_hlo=true")
    rows = lines(summary, "train")
    assert [step["loss"] for step in steps] == pytest.approx([row["loss"] for row in rows], rel=2e-5)
    assert [step["lr"] for step in steps] == pytest.approx([row["lr"] for row in rows], rel=1e-6)
    sums = evaluation["eval"]
    assert sums["examples"] == summary["eval_examples"]
    assert sums["top1"] / sums["examples"] == pytest.approx(summary["top1"], abs=1.5 / 360)
    assert sums["loss"] / sums["examples"] == pytest.approx(summary["loss"], rel=5e-4)
    files = tmp_path / "weights.safetensors", tmp_path / "run" / "weights.safetensors"
    found, wanted = map(load_file, files)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].shape == tensor.shape
        assert np.allclose(found[name], tensor, rtol=1e-3, atol=1e-4), name
    facts = [json.loads(safe_open(file, "np").metadata()["xlatrain"]) for file in files]
    assert facts[0] == facts[1]

    bundle = read_bundle(tmp_path / "bundle")
    assert set(bundle.programs) == {"train", "statistics", "eval"}
    assert bundle.manifest.platform == "gpu"
    # To the last byte the program that the run trained with.
    traced = (tmp_path / "run" / "train_step.hlo.pb").read_bytes()
    assert to_portable(traced, bundle.manifest.steps["train"].aliases).content == bundle.programs["train"]


@pytest.mark.one_replica
def test_what_stablehlo_has_no_op_for_runs_too(tmp_path):
    """The error function of a GELU. The model has no batch norm: its buffers are a tensor of no values."""
    model = ["model.name=test_vit", "data.image_size=160", "augment.mixup=0.2", "train.duration=3step"]
    export([*model, "cluster.replicas=1", "train.global_batch=8"], tmp_path / "bundle")
    assert b"mhlo.erf" in read_bundle(tmp_path / "bundle").programs["train"]
    losses = [step["loss"] for step in run_bundle(tmp_path)]
    assert np.isfinite(losses).all()
    assert len(set(losses)) == 3
