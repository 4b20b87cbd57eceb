"""The models and train steps of a run's phases, each of which has images of another size."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from xlatrain.engine.build import HostModel, TrainProgram, build_phase_model
from xlatrain.engine.contract import Tensors
from xlatrain.engine.describe import describe_phase
from xlatrain.engine.evaluate import build_eval_model
from xlatrain.models.batch_norm import GroupedBatchNorm
from xlatrain.preflight.checked import CheckedRun
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.replica import Replica
from xlatrain.xla.scopes import named_modules


def build_models(run: CheckedRun, replica: Replica) -> list[HostModel]:
    """One for each phase, since groups of batch norm and folds depend on batch and size, and last the one that is
    evaluated, which is that of a run's only phase where it has the evaluation's size."""
    models = [
        replica.shared(f"model-{i}", lambda phase=phase: build_phase_model(run, phase, replica))
        for i, phase in enumerate(run.phases)
    ]
    if len(models) == 1 and run.phases[0].image_size == run.config.data.image_size:
        return models
    return [*models, replica.shared("model", lambda: build_eval_model(run.evaluation, replica))]


@dataclass(frozen=True)
class NamedStep:
    """A step whose ops know the modules of its model that they come from, for a profile."""

    program: TrainProgram

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        with named_modules(self.program.model.module, whole=GroupedBatchNorm):
            return self.program.step(carry, inputs)


class PhaseSteps:
    """programs, steps: one for each phase. compiling: as of CapturedStep."""

    def __init__(
        self,
        run: CheckedRun,
        replica: Replica,
        models: list[HostModel],
        say: Callable[[str], None],
        compiling: Callable[[], AbstractContextManager[None]],
    ):
        self._run, self._replica, self._say = run, replica, say
        engine = run.config.engine
        self.programs = [TrainProgram(run, model) for model in models[: len(run.phases)]]
        steps = [p.step if engine.profile is None else NamedStep(p) for p in self.programs]
        self.steps = [
            CapturedStep(step, replica, "train step", engine.replay, say, engine.save_hlo, engine.strict, compiling)
            for step in steps
        ]

    def compile_ahead(self, state: Tensors, tables: Tensors, first: int) -> None:
        """Compile the steps of all phases that are to come before the first: a phase then begins without a pause."""
        lengths, count = self._run.lengths, len(self.steps)
        if count == 1:
            return
        for i, (step, program, phase) in enumerate(zip(self.steps, self.programs, self._run.phases, strict=True)):
            if i < lengths.phase_number(first):
                continue
            start = f"from step {phase.first_step:,}, epoch {lengths.epoch(phase.first_step):.1f}"
            self._say(f"phase {i + 1} of {count}, {start}: {describe_phase(lengths, phase)}")
            step.prepare(state, {**self._replica.to_device(program.blank_batch(phase)), **tables})

    def of(self, done: int) -> CapturedStep:
        """That of the phase that ends with or after so many steps; says so where one begins."""
        number = self._run.lengths.phase_number(done - 1)
        phase = self._run.phases[number]
        if number and phase.first_step == done - 1:
            self._say(f"phase {number + 1}: {describe_phase(self._run.lengths, phase)}")
        return self.steps[number]
