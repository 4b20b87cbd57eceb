"""Runs that several tests look at, each made once: one limited by its data, one by its device, one by Python."""

import shutil
from pathlib import Path

import pytest

from tests.nets import PLAIN
from tests.runs import train

SHORT = ["cluster.replicas=1", "train.duration=10step", "train.log_every=2step", "augment=none", "logger=none"]
SYNTHETIC = [
    "data=synthetic", "data.train_examples=64", "data.val_examples=16", "data.num_classes=4", "data.image_size=32",
]  # fmt: skip
SLOW = {
    "data": [PLAIN, "data=own", "data._target_=tests.reporting.slow.SlowDisk", "data.workers=0", "data.image_size=32",
             "train.global_batch=4", "train.eval_every=8step"],
    "device": ["model._target_=tests.reporting.slow.Heavy", *SYNTHETIC, "train.global_batch=16", "engine.profile=3:2"],
    "host": ["model._target_=tests.reporting.slow.SlowPython", *SYNTHETIC, "train.global_batch=4",
             "engine.replay=false", "engine.strict=false"],
}  # fmt: skip


@pytest.fixture(scope="session")
def slow_runs(tmp_path_factory):
    """The folder of each, by what limits it."""
    root = tmp_path_factory.mktemp("slow") / "runs"
    return {place: Path(train(root, place, *SHORT, *options)["run"]) for place, options in SLOW.items()}


@pytest.fixture
def a_run(slow_runs, tmp_path):
    """A copy of one, to be spoilt."""
    return Path(shutil.copytree(slow_runs["data"], tmp_path / "runs/spoilt"))
