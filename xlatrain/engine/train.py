"""A training run on one replica, from seed to summary."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from xlatrain.data.order import Position
from xlatrain.data.phase import Phase
from xlatrain.data.storage.retry import retries_so_far
from xlatrain.engine.build import HostModel, TrainProgram, build_phase_model, place
from xlatrain.engine.contract import Tensors, TrainMetrics, TrainState
from xlatrain.engine.evaluate import Evaluator, build_eval_model
from xlatrain.engine.meter import Meter
from xlatrain.engine.progress import ProgressLine
from xlatrain.engine.provenance import used_by, versions
from xlatrain.engine.run_folder import MetricsWriter, log_to
from xlatrain.engine.step import average_buffers, compare_replicas
from xlatrain.engine.weights import save_weights
from xlatrain.errors import DataError, DivergenceError
from xlatrain.models.create import timm_arguments
from xlatrain.optim.create import describe_optimizer
from xlatrain.optim.reduce import describe_gradient
from xlatrain.preflight.checked import CheckedRun
from xlatrain.preflight.facts import describe_weights
from xlatrain.preflight.lengths import Lengths
from xlatrain.preflight.resolve import describe_learning_rate
from xlatrain.words import counted
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.feed import DeviceFeed, HostFan
from xlatrain.xla.replica import Replica


def train_replica(replica: Replica, run: CheckedRun, folder: Path) -> dict[str, Any]:
    """Train; returns the summary. Runs on every replica; the first one writes."""
    if replica.is_first:
        log_to(folder, run.notes)
    with ProgressLine(run.lengths.total_steps, silent=not replica.is_first) as progress:
        return Trainer(replica, run, folder, progress).train()


class Trainer:
    """The parts of a run. `train` reads top to bottom: build, compare, loop, evaluate, save."""

    def __init__(self, replica: Replica, run: CheckedRun, folder: Path, progress: ProgressLine):
        self.replica, self.run, self.folder, self.progress = replica, run, folder, progress
        self.started = time.perf_counter()
        config, engine = run.config, run.config.engine
        progress.say(f"building {config.model.name} for {counted(replica.world_size, 'replica')}")
        models = self._build_models()
        self.model: HostModel = models[-1]
        self.programs = [TrainProgram(run, model) for model in models[: len(run.phases)]]
        self._describe()
        self.steps = [
            CapturedStep(program.step, replica, "train step", engine.replay, progress.say, engine.save_hlo)
            for program in self.programs
        ]
        self.evaluator = Evaluator(run.evaluation, self.model, replica, progress.say)
        self.synchronise = CapturedStep(average_buffers, replica, "statistics step", engine.replay)
        self.writer = MetricsWriter(folder) if replica.is_first else None
        self.meter = Meter()
        self.last_eval: dict[str, Any] = {}

    def _build_models(self) -> list[HostModel]:
        """One for each phase, since groups of batch norm and tiles depend on batch and size, and last the one that is
        evaluated, which is that of a run's only phase."""
        run, replica = self.run, self.replica
        models = [
            replica.shared(f"model-{i}", lambda phase=phase: build_phase_model(run, phase, replica))
            for i, phase in enumerate(run.phases)
        ]
        if len(models) == 1:
            return models
        return [*models, replica.shared("model", lambda: build_eval_model(run.evaluation, replica))]

    def _describe(self) -> None:
        """What was made of the options, in words."""
        config = self.run.config
        self.progress.say(self.model.layout.parameters.describe_groups())
        self.progress.say(describe_learning_rate(config, self.run.schedule))
        for text in (describe_optimizer(config.optimizer), describe_gradient(config.gradient)):
            if text:
                self.progress.say(text)

    def train(self) -> dict[str, Any]:
        lengths, replica, in_flight = self.run.lengths, self.replica, self.run.config.engine.in_flight
        state = replica.to_device(self.programs[0].carry(replica.ordinal))
        self._check_replicas_equal(state)
        tables = replica.to_device(self.programs[0].tables())
        self._compile_ahead(state, tables)
        feed = DeviceFeed(replica.shared("train-loader", self._open_loader), replica)
        running: deque[tuple[int, Tensors]] = deque()

        for done, batch in enumerate(self._batches(feed), 1):
            self.meter.waited(feed.waited)
            step = self.steps[self._phase_of(done)]
            while len(running) >= in_flight:
                self._read(*running.popleft())
            with self.meter.host():
                state, outputs = step(state, {**batch, **tables})
            running.append((done, outputs))
            if lengths.due(lengths.eval_every, done):
                while running:
                    self._read(*running.popleft())
                state = self._evaluate(state, done)
        feed.close()
        return self._finish(state)

    def _open_loader(self) -> HostFan:
        run, replica = self.run, self.replica
        batches = run.dataset.train.train_batches(place(replica), run.config.train.seed, run.phases, Position())
        return HostFan(batches, replica.local_count)

    def _phase_of(self, done: int) -> int:
        """The number of the phase that ends with or after so many steps; says so where one begins."""
        number = self.run.lengths.phase_number(done - 1)
        phase = self.run.phases[number]
        if number and phase.first_step == done - 1:
            self.progress.say(f"phase {number + 1}: {_describe_phase(self.run.lengths, phase)}")
        return number

    def _compile_ahead(self, state: Tensors, tables: Tensors) -> None:
        """Compile the steps of all phases before the first: a phase then begins without a pause."""
        lengths, count = self.run.lengths, len(self.steps)
        if count == 1:
            return
        for i, (step, program, phase) in enumerate(zip(self.steps, self.programs, self.run.phases, strict=True)):
            start = f"from step {phase.first_step:,}, epoch {lengths.epoch(phase.first_step):.1f}"
            self.progress.say(f"phase {i + 1} of {count}, {start}: {_describe_phase(lengths, phase)}")
            step.prepare(state, {**self.replica.to_device(program.blank_batch(phase)), **tables})

    def _check_replicas_equal(self, state: Tensors) -> None:
        """Compare weights, and how the data are cut, over all replicas, on the devices themselves."""
        if self.replica.world_size == 1:
            return
        streams = getattr(self.run.config.data, "streams", None) or 0
        inputs = TrainState.of(state).raw_weights.tensors()
        inputs |= self.replica.to_device({"streams": torch.tensor([float(streams)])})
        _, outputs = CapturedStep(compare_replicas, self.replica, "comparison step")({}, inputs)
        spread = {name: float(gap) for name, gap in self.replica.to_host(outputs).items()}
        if spread.pop("streams"):  # null follows from the workers, which follow from a machine's cores
            problem = f"machines would cut the data into different streams, this one into {streams}"
            raise DataError(f"{problem}: give all of them the same data.streams")
        if any(spread.values()):
            raise DivergenceError(f"replicas start with different weights, up to {max(spread.values()):g} apart")
        self.progress.say(f"{counted(self.replica.world_size, 'replica')} hold equal weights")

    def _batches(self, feed: DeviceFeed) -> Iterator[Tensors]:
        """One for each step of the run; where a failure is rehearsed, that of its step raises instead."""
        engine, batches = self.run.config.engine, iter(feed)
        for step in range(self.run.lengths.total_steps):
            if (engine.fail_replica, engine.fail_step) == (self.replica.ordinal, step):
                what = f"engine.fail_replica={engine.fail_replica} engine.fail_step={engine.fail_step}"
                raise RuntimeError(f"rehearsed failure: {what}")
            yield next(batches)  # of a feed that ends before the run, an error

    def _read(self, done: int, outputs: Tensors) -> None:
        """Read what a step reported, once it has run; log, and end a run that diverges."""
        values, lengths = TrainMetrics.read(self.replica.to_host(outputs)), self.run.lengths
        self.meter.step(values, self.run.phases[lengths.phase_number(done - 1)].global_batch)
        in_a_row = int(values["skipped_in_a_row"])
        if in_a_row >= self.run.config.train.max_skipped_steps:
            steps = f"{counted(in_a_row, 'step')} in a row, {done - in_a_row + 1} to {done}"
            cure = "Lower optimizer.lr or lengthen schedule.warmup"
            raise DivergenceError(f"the gradient was not finite in {steps}; none was applied. {cure}")
        log = lengths.due(lengths.log_every, done)
        epoch = lengths.epoch(done)
        if log and self.writer:
            self.writer.write("train", done, epoch, **self.meter.interval())
        elif log:
            self.meter.interval()
        status = f"epoch {epoch:.1f}  loss {values['loss']:.4f}  lr {values['lr']:.4g}"
        if in_a_row:
            status += f"  {counted(in_a_row, 'step')} skipped (gradient not finite)"
        if self.meter.images_per_second:
            status += f"  {self.meter.images_per_second:.0f} images/s"
        self.progress.step(done, status, print_line=log)

    def _evaluate(self, state: Tensors, done: int) -> Tensors:
        """Make the running statistics equal, evaluate the weights meant for use, report."""
        state = self._synchronised(state)
        with self.meter.pause():
            result = self.evaluator(TrainState.of(state).weights)
        self.last_eval = result.as_dict()
        epoch = self.run.lengths.epoch(done)
        if self.writer:
            self.writer.write("eval", done, epoch, **self.last_eval)
        self.progress.keep(
            f"epoch {epoch:.1f}: top-1 {result.top1:.4f}, top-5 {result.top5:.4f}, loss {result.loss:.4f} "
            f"on {result.eval_examples} images"
        )
        return state

    def _synchronised(self, state: Tensors) -> Tensors:
        if all(p.bn_group == self.replica.world_size for p in self.run.phases) or not self.model.layout.buffers.names:
            return state
        equal, _ = self.synchronise(TrainState.of(state).statistics(), {})
        return {**state, **equal}

    def _finish(self, state: Tensors) -> dict[str, Any]:
        """Save the weights and say how it went."""
        self.replica.wait()
        config, lengths = self.run.config, self.run.lengths
        host = self.replica.to_host(state) if self.replica.is_first else {}
        counts = self.replica.counts("train step", "eval step")
        summary = {
            "status": "done",
            **self.last_eval,
            "steps": lengths.total_steps,
            "epochs": lengths.epoch(lengths.total_steps),
            "replicas": self.replica.world_size,
            "global_batch": config.train.global_batch,
            "compiles": {name.removesuffix(" step"): n for name, n in counts.compiles.items()},
            "other_compiles": counts.other_compiles,
            "cpu_fallbacks": counts.cpu_fallbacks,
            "device_reads": counts.device_reads,
            **self.meter.totals(),
            "data_retries": retries_so_far(),
            "capture_seconds": round(sum(step.capture_seconds for step in self.steps), 3),
            "wall_seconds": round(time.perf_counter() - self.started, 3),
        }
        if self.writer:
            summary["sha256"] = self._save_weights(TrainState.of(host))
            for i, step in enumerate(self.steps):
                if step.hlo:
                    name = "train_step.hlo.pb" if len(self.steps) == 1 else f"train_step_{i + 1}.hlo.pb"
                    (self.folder / name).write_bytes(step.hlo)
            self.writer.write("event", lengths.total_steps, lengths.epoch(lengths.total_steps), event="done")
            self.writer.close()
        return summary

    def _save_weights(self, state: TrainState) -> dict[str, str]:
        """Save the weights of a state on the host; returns the checksum of each file by its name."""
        config, data = self.run.config, self.run.dataset
        arguments = timm_arguments(config.model, data.num_classes, config.data.image_size)
        facts = describe_weights(config, data.num_classes, data.class_names, arguments, versions(used_by(config)))
        digests = save_weights(self.folder, state, self.model.layout, self.model.persistent(), facts)
        for name, digest in digests.items():
            self.progress.say(f"saved {name}, sha256 {digest}")
        return digests


def _describe_phase(lengths: Lengths, phase: Phase) -> str:
    steps = lengths.steps_per_epoch(phase)
    return f"{phase.image_size} px, batch {phase.global_batch:,}, {steps:,.1f} steps an epoch"
