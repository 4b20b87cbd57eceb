"""What saved weights answer to every image of an evaluation, one by one: by the step that evaluates, on all replicas.

Prediction, the details of an evaluation, ensembles and the checks of exported files are made of this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from xlatrain.data.batch import Batch
from xlatrain.data.order import eval_numbers
from xlatrain.data.sources import OrderedSplit
from xlatrain.engine.build import EvalProgram, HostModel, build_host_model, place
from xlatrain.engine.contract import Answers, EvalSums, Tensors, Weights
from xlatrain.engine.weights import load_weights
from xlatrain.preflight.checked import CheckedEvaluation
from xlatrain.words import counted
from xlatrain.xla import pulse
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.feed import DeviceFeed, HostFan
from xlatrain.xla.heartbeat import EVALUATING
from xlatrain.xla.replica import Replica


@dataclass(frozen=True)
class Judged:
    """What weights, one or several whose probabilities are averaged, say to the images of a batch. numbers: int64 [n],
    of the images in their split; scores: float64 [n, classes], logarithms of probabilities; labels: int64 [n]; skipped:
    bool [n], images that could not be decoded, whose scores say nothing."""

    numbers: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    skipped: np.ndarray

    @classmethod
    def of(cls, members: Iterable[Answers]) -> Judged:
        """The mean of the members' probabilities."""
        members = list(members)
        first = members[0]
        scores = [log_softmax(member.logits) for member in members]
        mean = scores[0] if len(scores) == 1 else np.logaddexp.reduce(scores) - np.log(len(scores))
        return cls(first.numbers, mean, first.labels, first.skipped)

    def ranks(self) -> np.ndarray:
        """How many other classes score no less than the label, as an evaluation counts it: int64 [n]."""
        mine = np.take_along_axis(self.scores, self.labels[:, None], 1)
        others = np.arange(self.scores.shape[1]) != self.labels[:, None]
        return (np.logical_not(self.scores < mine) & others).sum(1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, float64 [n, classes], in the order that float32 logits have."""
    values = logits.astype(np.float64)
    highest = values.max(1, keepdims=True)
    return values - highest - np.log(np.exp(values - highest).sum(1, keepdims=True))


class Member:
    """Weights on a replica's device, and the captured step that they answer by. like: a member whose step will do, as
    it differs in nothing but weights."""

    def __init__(
        self, evaluation: CheckedEvaluation, replica: Replica, report: Callable[[str], None], like: Member | None = None
    ):
        self.evaluation = evaluation
        if like is None:
            name = f"model of {_machinery(evaluation)}"
            model = replica.shared(name, lambda: build_eval_model(evaluation, replica))
            program, engine = EvalProgram(evaluation, model, answers=True), evaluation.config.engine
            step = CapturedStep(program.step, replica, "eval step", engine.replay, report, strict=engine.strict)
            self.model, self.program, self.step = model, program, step
            self.tables = replica.to_device(program.tables())
        else:
            self.model, self.program, self.step, self.tables = like.model, like.program, like.step, like.tables
        weights = load_weights(Path(evaluation.config.weights), self.model.layout)
        self.weights: Tensors = Weights.of(replica.to_device(weights.tensors())).tensors()

    def __call__(self, carry: Tensors, batch: Tensors) -> tuple[Tensors, Tensors]:
        """The carry with a batch in it, and outputs, as of engine.step.AnswerStep."""
        return self.step(carry, {**batch, **self.tables, **self.weights})


def open_members(evaluation: CheckedEvaluation, replica: Replica, report: Callable[[str], None]) -> list[Member]:
    """The members of an evaluation. Those of one model have one program."""
    found: dict[str, Member] = {}
    members = []
    for each in evaluation.each:
        machinery = _machinery(each)
        members.append(Member(each, replica, report, found.get(machinery)))
        found.setdefault(machinery, members[-1])
    return members


def judge(
    members: list[Member], replica: Replica, report: Callable[[Judged], None] = lambda judged: None
) -> dict[str, float]:
    """Run members over their validation set; the first replica reports each batch. Returns the sums of the first
    member, by the names of EvalSums, on every replica."""
    evaluation = members[0].evaluation
    feed = DeviceFeed(replica.shared("answers-loader", lambda: _open_loader(evaluation, replica)), replica)
    carries = [replica.to_device(EvalSums.zero()) for _ in members]
    try:
        for number, batch in enumerate(feed, 1):
            pulse.mark(replica.ordinal, EVALUATING, 0, number)
            told = []
            for i, member in enumerate(members):
                carries[i], outputs = member(carries[i], batch)
                replica.wait()
                if replica.is_first:
                    told.append(Answers.read(replica.to_host({"answers": outputs["answers"]})))
            if replica.is_first:
                report(Judged.of(told))
        return EvalSums.read(replica.to_host(carries[0]))
    finally:
        feed.close()
        replica.unshare("answers-loader")


class NumberedBatches:
    """Batches that know which image lies in each of their rows."""

    def __init__(self, batches: Iterator[Batch], numbers: Iterator[np.ndarray]):
        self._batches, self._numbers = batches, numbers

    def __iter__(self) -> NumberedBatches:
        return self

    def __next__(self) -> Batch:
        return {**next(self._batches), "numbers": Answers.numbered(next(self._numbers))}

    def close(self) -> None:
        """End what makes them."""
        getattr(self._batches, "close", lambda: None)()


def numbered_batches(evaluation: CheckedEvaluation, replica: Replica) -> NumberedBatches:
    """A process's batches of the validation set. A split of somebody else's is numbered in the order that it gives."""
    here, batch, split = place(replica), evaluation.batch // replica.processes, evaluation.dataset.val
    workers = max(1, split.workers) if isinstance(split, OrderedSplit) else 1
    numbers = eval_numbers(split.samples, batch, here.process, here.processes, workers)
    return NumberedBatches(iter(split.eval_batches(here, batch)), numbers)


def build_eval_model(evaluation: CheckedEvaluation, replica: Replica) -> HostModel:
    """The model as it is evaluated; its batch norm takes running statistics, so no replicas share any."""
    config = evaluation.config
    size = config.data.image_size
    return build_host_model(config, evaluation.dataset.num_classes, replica, size, fold=evaluation.fold)


def describe_weights_used(evaluation: CheckedEvaluation, replica: Replica) -> str:
    """Which weights answer on how many replicas, in words."""
    files = " and ".join(str(each.config.weights) for each in evaluation.each)
    return f"{files} on {counted(replica.world_size, 'replica')}"


def _open_loader(evaluation: CheckedEvaluation, replica: Replica) -> HostFan:
    return HostFan(numbered_batches(evaluation, replica), replica.local_count)


def _machinery(evaluation: CheckedEvaluation) -> str:
    """All of an evaluation that decides its program and tables: what is the same, two members have in common."""
    config = replace(evaluation.config, weights=None)
    parts = {name: asdict(getattr(config, name)) for name in ("model", "precision", "data")}
    return json.dumps([parts, evaluation.fold], sort_keys=True, default=str)
