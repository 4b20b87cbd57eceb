"""The steps of a run traced, neither compiled nor run: programs for compilers elsewhere."""

from __future__ import annotations

from xlatrain.engine.build import EvalProgram, HostModel, TrainProgram
from xlatrain.engine.contract import TrainState
from xlatrain.preflight.checked import CheckedRun
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.replica import Replica
from xlatrain.xla.trace import ExportedStep
from xlatrain.xla.transfer import to_device


def trace_steps(run: CheckedRun, model: HostModel, replica: Replica) -> tuple[ExportedStep, ExportedStep]:
    """The train step of a run's first phase and its evaluation step. model: that of the phase. To trace as one of many
    replicas on a device that is alone: under xla.world.planned_world."""
    training, evaluation = TrainProgram(run, model), EvalProgram(run.evaluation, model)
    carry = to_device(training.carry(ordinal=0), replica.device)
    inputs = to_device({**training.blank_batch(run.phases[0]), **training.tables()}, replica.device)
    train_step = CapturedStep(training.step, replica, "train step").export(carry, inputs)
    inputs = to_device({**evaluation.blank_batch(), **evaluation.tables()}, replica.device)
    inputs |= TrainState.of(carry).raw_weights.tensors()
    sums = to_device(evaluation.carry(), replica.device)
    return train_step, CapturedStep(evaluation.step, replica, "eval step").export(sums, inputs)
