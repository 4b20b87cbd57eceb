"""Exact distributed evaluation: fixed shapes, padding masked out, each image counted once on any number of replicas."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xlatrain.engine.answers import build_eval_model, describe_weights_used, judge, open_members
from xlatrain.engine.build import EvalProgram, HostModel, place
from xlatrain.engine.contract import EvalSums, Tensors, Weights
from xlatrain.engine.details.tally import Tally
from xlatrain.engine.details.write import write_details
from xlatrain.engine.progress import ProgressLine
from xlatrain.engine.run_folder import log_to
from xlatrain.engine.stopping import Stop
from xlatrain.engine.weights import load_weights, sha256
from xlatrain.preflight.checked import CheckedEvaluation
from xlatrain.xla import pulse
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.feed import DeviceFeed, HostFan
from xlatrain.xla.heartbeat import BUILDING, EVALUATING
from xlatrain.xla.replica import Replica


@dataclass(frozen=True)
class EvalResult:
    """loss: mean cross entropy. top1, top5: fractions. eval_examples: images counted; eval_skipped_samples: undecodable
    ones."""

    loss: float
    top1: float
    top5: float
    eval_examples: int
    eval_skipped_samples: int

    @classmethod
    def of(cls, sums: Mapping[str, float]) -> EvalResult:
        """Of the sums over all images, by the names of EvalSums."""
        seen = max(sums["examples"], 1.0)
        means = {name: sums[name] / seen for name in ("loss", "top1", "top5")}
        return cls(**means, eval_examples=round(sums["examples"]), eval_skipped_samples=round(sums["skipped"]))

    def as_dict(self) -> dict[str, float | int]:
        return asdict(self)


class Evaluator:
    """Evaluates flat weights on the validation set; captures its step at the first use. compiling: as of
    CapturedStep."""

    def __init__(
        self,
        evaluation: CheckedEvaluation,
        model: HostModel,
        replica: Replica,
        report: Callable[[str], None],
        compiling: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.evaluation, self.replica = evaluation, replica
        self.program = EvalProgram(evaluation, model)
        engine = evaluation.config.engine
        self.step = CapturedStep(
            self.program.step, replica, "eval step", engine.replay, report, strict=engine.strict, compiling=compiling
        )
        self._tables = replica.to_device(self.program.tables())
        self._count = 0

    def __call__(self, weights: Weights, stop: Stop | None = None, done: int = 0) -> EvalResult | None:
        """weights: on the device, after so many steps. The same result on every replica; None when it was asked to
        stop."""
        self._count += 1
        name = f"eval-loader-{self._count}"
        feed = DeviceFeed(self.replica.shared(name, self._open_loader), self.replica)
        constant: Tensors = {**self._tables, **weights.tensors()}
        carry = self.replica.to_device(self.program.carry())
        try:
            for number, batch in enumerate(feed, 1):
                pulse.mark(self.replica.ordinal, EVALUATING, done, number)
                carry, outputs = self.step(carry, {**batch, **constant, **(stop.input() if stop else {})})
                if stop is None:
                    self.replica.wait()
                elif stop.read(self.replica.to_host(outputs)["stop"].item()):
                    return None
            sums = EvalSums.read(self.replica.to_host(carry))
        finally:
            feed.close()
            self.replica.unshare(name)
        return EvalResult.of(sums)

    def _open_loader(self) -> HostFan:
        batch = self.evaluation.batch // self.replica.processes
        batches = self.evaluation.dataset.val.eval_batches(place(self.replica), batch)
        return HostFan(batches, self.replica.local_count)


def evaluate_replica(replica: Replica, evaluation: CheckedEvaluation, folder: Path) -> dict[str, Any]:
    """Evaluate saved weights; returns the summary. Runs on every replica."""
    config = evaluation.config
    files = [Path(each.config.weights) for each in evaluation.each]
    started = time.perf_counter()
    if replica.is_first:
        log_to(folder, evaluation.notes)
    with ProgressLine(0, silent=not replica.is_first) as progress:
        progress.say(f"evaluating {describe_weights_used(evaluation, replica)}")
        pulse.mark(replica.ordinal, BUILDING, 0)
        if evaluation.members or config.eval.details:
            result = evaluate_by_image(replica, evaluation, folder, progress)
        else:
            model = replica.shared("model", lambda: build_eval_model(evaluation, replica))
            weights = Weights.of(replica.to_device(load_weights(files[0], model.layout).tensors()))
            result = Evaluator(evaluation, model, replica, progress.say)(weights).as_dict()
    return {
        "status": "done",
        **result,
        "replicas": replica.world_size,
        "weights": config.weights,
        "sha256": {str(file) if evaluation.members else file.name: sha256(file) for file in files},
        "compiles": {"train": 0, "eval": replica.counts("eval step").compiles["eval step"]},
        "wall_seconds": round(time.perf_counter() - started, 3),
    }


def evaluate_by_image(
    replica: Replica, evaluation: CheckedEvaluation, folder: Path, progress: ProgressLine
) -> dict[str, Any]:
    """What the summary says of an evaluation that looks at each image: of several weights together, or with details,
    which the first replica writes to the folder."""
    members = open_members(evaluation, replica, progress.say)
    tally = Tally(evaluation.dataset.num_classes, evaluation.config.eval.mistakes)
    sums = judge(members, replica, tally.add)
    result = EvalResult.of(sums).as_dict()
    if replica.is_first:
        if evaluation.members:  # the device knows of single weights alone
            result = EvalResult.of(tally.sums()).as_dict()
        if evaluation.config.eval.details:
            progress.say("writing details")
            result |= write_details(folder, evaluation, tally, result)
    return result
