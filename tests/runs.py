"""Whole runs and what they wrote: what tests of several rooms use."""

import json
from pathlib import Path

from xlatrain.engine import run as runs
from xlatrain.preflight.check import check

EXACT = [
    "augment=none",
    "model.drop_rate=0",
    "model.drop_path_rate=0",
    "precision=fp32",
    "model.sync_bn_group=world",
    "ema=off",
    "train.global_batch=64",
    "train.log_every=1step",
    "train.duration=20step",
    "optimizer.lr=0.009",
    "schedule.warmup=20step",
    "train.eval_every=20step",
]


RANDOM = [
    "augment=shift_flip",
    "augment.erase=0.5",
    "model.drop_rate=0.2",
    "model.drop_path_rate=0.1",
    "precision=bf16",
    "ema=on",
    "train.global_batch=64",
    "train.log_every=1step",
    "train.duration=6step",
    "optimizer.lr=0.0015",
    "schedule.warmup=3step",
    "train.eval_every=3step",
    "model.sync_bn_group=2",
    "cluster.replicas=4",
    # Changes nothing, but must not be written down anywhere.
    "+model.kwargs.pretrained_cfg_overlay={url:'https://me:hunter2@host/w?sig=hunter2'}",
]


def train(root, name, *overrides):
    """What was not planned is an error, of whatever run a test makes."""
    overrides = ["engine.strict=true", *overrides, f"run.root={root}", f"run.name={name}"]
    return runs.train(check(overrides))


def lines(summary, kind):
    rows = map(json.loads, (Path(summary["run"]) / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row["kind"] == kind]


def losses(summary):
    return [row["loss"] for row in lines(summary, "train")]
