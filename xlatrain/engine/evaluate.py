"""Exact distributed evaluation: fixed shapes, padding masked out, each image counted once on any number of replicas."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from xlatrain.engine.build import HostModel, build_eval_step, build_host_model, eval_tables, place
from xlatrain.engine.progress import ProgressLine
from xlatrain.engine.run_folder import log_to
from xlatrain.engine.step import Tensors
from xlatrain.engine.weights import load_weights, sha256
from xlatrain.preflight.check import Plan
from xlatrain.words import counted
from xlatrain.xla import watch
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.feed import DeviceFeed, HostFan
from xlatrain.xla.runtime import Replica, to_device


@dataclass(frozen=True)
class EvalResult:
    """loss: mean cross entropy. top1, top5: fractions. eval_examples: images counted; eval_skipped_samples: undecodable
    ones."""

    loss: float
    top1: float
    top5: float
    eval_examples: int
    eval_skipped_samples: int

    def as_dict(self) -> dict[str, float | int]:
        return asdict(self)


class Evaluator:
    """Evaluates flat weights on the validation set; captures its step at the first use."""

    def __init__(self, plan: Plan, model: HostModel, replica: Replica, report: Callable[[str], None]):
        self.plan, self.replica = plan, replica
        self.step = CapturedStep(
            build_eval_step(plan.config, model), replica, "eval step", plan.config.engine.replay, report
        )
        self._tables = to_device(eval_tables(plan.config, model), replica.device)
        self._count = 0

    def __call__(self, params: torch.Tensor, buffers: torch.Tensor) -> EvalResult:
        """params, buffers: flat, on the device. The same result on every replica."""
        self._count += 1
        where, batch = place(self.replica), self.plan.eval_batch // self.replica.processes
        fan = self.replica.shared(
            f"eval-loader-{self._count}",
            lambda: HostFan(self.plan.dataset.val.eval_batches(where, batch), self.replica.local_count),
        )
        feed = DeviceFeed(fan, self.replica)
        constant: Tensors = {**self._tables, "params": params, "buffers": buffers}
        carry = to_device({"sums": torch.zeros(5)}, self.replica.device)
        try:
            for batch in feed:
                carry, _ = self.step(carry, {**batch, **constant})
                self.replica.wait()
            loss, top1, top5, examples, skipped = carry["sums"].cpu().tolist()
        finally:
            feed.close()
            self.replica.unshare(f"eval-loader-{self._count}")
        seen = max(examples, 1.0)
        return EvalResult(loss / seen, top1 / seen, top5 / seen, round(examples), round(skipped))


def evaluate_replica(replica: Replica, plan: Plan, folder: Path) -> dict[str, Any]:
    """Evaluate saved weights; returns the summary. Runs on every replica."""
    config = plan.config
    started = time.perf_counter()
    if replica.is_first:
        log_to(folder)
    with ProgressLine(0, silent=not replica.is_first) as progress:
        for note in plan.notes:
            progress.keep(note)
        progress.say(f"evaluating {config.weights} on {counted(replica.world_size, 'replica')}")
        model = replica.shared("model", lambda: build_host_model(plan, replica))
        params, buffers = load_weights(Path(config.weights), model.layout)
        result = Evaluator(plan, model, replica, progress.say)(
            **to_device({"params": params, "buffers": buffers}, replica.device)
        )
    return {
        "status": "done",
        **result.as_dict(),
        "replicas": replica.world_size,
        "weights": config.weights,
        "sha256": {Path(config.weights).name: sha256(Path(config.weights))},
        "compiles": {"train": 0, "eval": watch.compiles("eval step")},
        "wall_seconds": round(time.perf_counter() - started, 3),
    }
