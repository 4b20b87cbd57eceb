"""A training run on one replica, from seed to summary."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

import torch

from xlatrain.data.order import Position
from xlatrain.data.storage.retry import retries_so_far
from xlatrain.engine.build import (
    HostModel,
    blank_batch,
    build_host_model,
    build_train_step,
    place,
    stages,
    train_carry,
    train_tables,
)
from xlatrain.engine.evaluate import Evaluator
from xlatrain.engine.meter import Meter
from xlatrain.engine.progress import ProgressLine
from xlatrain.engine.provenance import versions
from xlatrain.engine.run_folder import MetricsWriter, log_to
from xlatrain.engine.state import weights_in_use
from xlatrain.engine.step import Tensors, average_buffers, compare_replicas
from xlatrain.engine.weights import save_weights
from xlatrain.errors import DivergenceError
from xlatrain.models.create import timm_arguments
from xlatrain.optim.reduce import describe_gradient
from xlatrain.preflight.check import Plan
from xlatrain.preflight.facts import describe_weights
from xlatrain.preflight.lengths import Lengths, Phase
from xlatrain.preflight.resolve import describe_learning_rate, describe_short_warmup
from xlatrain.words import counted
from xlatrain.xla import watch
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.feed import DeviceFeed, HostFan
from xlatrain.xla.runtime import Replica, to_device


def train_replica(replica: Replica, plan: Plan, folder: Path) -> dict[str, Any]:
    """Train as planned; returns the summary. Runs on every replica; the first one writes."""
    if replica.is_first:
        log_to(folder)
    with ProgressLine(plan.lengths.total_steps, silent=not replica.is_first) as progress:
        return Trainer(replica, plan, folder, progress).run()


class Trainer:
    """The parts of a run. `run` reads top to bottom: build, compare, loop, evaluate, save."""

    def __init__(self, replica: Replica, plan: Plan, folder: Path, progress: ProgressLine):
        config = plan.config
        self.replica, self.plan, self.folder, self.progress = replica, plan, folder, progress
        self.started = time.perf_counter()
        progress.say(f"building {config.model.name} for {counted(replica.world_size, 'replica')}")
        self.model: HostModel = replica.shared("model", lambda: build_host_model(plan, replica))
        progress.say(self.model.layout.parameters.describe_groups())
        if second := getattr(config.optimizer, "loss_l2", 0.0):
            progress.say(f"decayed twice: an L2 of {second:g} in the loss, on all but norms, comes first")
        progress.say(describe_learning_rate(config, plan.schedule))
        if text := describe_short_warmup(config, plan.lengths, plan.schedule):
            progress.keep(text)
        if text := describe_gradient(config.gradient):
            progress.say(text)
        engine = config.engine
        self.steps: list[CapturedStep] = []
        for i, part in enumerate(plan.parts):
            # Groups of batch norm and tiles depend on batch and size: each phase has a module of its own.
            model = self.model
            if plan.phases:
                model = replica.shared(f"model-{i}", lambda part=part: build_host_model(part, replica))
            train_step = build_train_step(part.config, model)
            self.steps.append(
                CapturedStep(train_step, replica, "train step", engine.replay, progress.say, engine.save_hlo)
            )
        self.metrics = train_step.metrics
        self.evaluator = Evaluator(plan, self.model, replica, progress.say)
        self.synchronise = CapturedStep(average_buffers, replica, "statistics step", config.engine.replay)
        self.writer = MetricsWriter(folder) if replica.is_first else None
        self.meter = Meter()
        self.in_flight = config.engine.in_flight or (1 if replica.platform == "CPU" else 2)
        self.last_eval: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        lengths, replica = self.plan.lengths, self.replica
        state = to_device(train_carry(self.plan, self.model, replica.ordinal), replica.device)
        self._check_replicas_equal(state)
        tables = to_device(train_tables(self.plan, self.model), replica.device)
        self._compile_ahead(state, tables)
        fan = replica.shared("train-loader", self._open_loader)
        feed = DeviceFeed(fan, replica)
        batches = iter(feed)
        running: deque[tuple[int, torch.Tensor]] = deque()

        for step in range(lengths.total_steps):
            self._rehearse_failure(step)
            number = lengths.phase_number(step)
            if number and lengths.phases[number].first_step == step:
                self.progress.say(f"phase {number + 1}: {_describe(lengths, lengths.phases[number])}")
            batch = next(batches)
            self.meter.waited(feed.waited)
            while len(running) >= self.in_flight:
                self._read(*running.popleft())
            with self.meter.host():
                state, outputs = self.steps[number](state, {**batch, **tables})
            running.append((step, outputs["metrics"]))
            done = step + 1
            if lengths.due(lengths.eval_every, done):
                while running:
                    self._read(*running.popleft())
                state = self._evaluate(state, done)
        feed.close()
        return self._finish(state)

    def _open_loader(self) -> HostFan:
        read = self.plan.dataset.train.train_batches
        batches = read(place(self.replica), self.plan.config.train.seed, stages(self.plan, self.replica), Position())
        return HostFan(batches, self.replica.local_count)

    def _compile_ahead(self, state: Tensors, tables: Tensors) -> None:
        """Compile the steps of all phases before the first: a phase then begins without a pause."""
        lengths, count = self.plan.lengths, len(self.steps)
        if count == 1:
            return
        for i, (step, phase) in enumerate(zip(self.steps, lengths.phases, strict=True)):
            start = f"from step {phase.first_step:,}, epoch {lengths.epoch(phase.first_step):.1f}"
            self.progress.say(f"phase {i + 1} of {count}, {start}: {_describe(lengths, phase)}")
            batch = blank_batch(phase.global_batch // self.replica.world_size, phase.image_size)
            step.prepare(state, {**to_device(batch, self.replica.device), **tables})

    def _check_replicas_equal(self, state: Tensors) -> None:
        """Compare weights over all replicas, on the devices themselves."""
        if self.replica.world_size == 1:
            return
        compare = CapturedStep(compare_replicas, self.replica, "comparison step")
        _, outputs = compare({}, {"params": state["params"], "buffers": state["buffers"]})
        if spread := float(outputs["spread"].cpu()):
            raise DivergenceError(f"replicas start with different weights, up to {spread:g} apart")
        self.progress.say(f"{counted(self.replica.world_size, 'replica')} hold equal weights")

    def _rehearse_failure(self, step: int) -> None:
        engine = self.plan.config.engine
        if engine.fail_replica == self.replica.ordinal and engine.fail_step == step:
            raise RuntimeError(f"rehearsed failure: engine.fail_replica={engine.fail_replica} engine.fail_step={step}")

    def _read(self, step: int, metrics: torch.Tensor) -> None:
        """Read what a step reported, once it has run; log, and end a run that diverges."""
        values = dict(zip(self.metrics, metrics.cpu().tolist(), strict=True))
        done, lengths = step + 1, self.plan.lengths
        self.meter.step(values, lengths.phases[lengths.phase_number(step)].global_batch)
        in_a_row = int(values["skipped_in_a_row"])
        if in_a_row >= self.plan.config.train.max_skipped_steps:
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
            result = self.evaluator(*weights_in_use(state))
        self.last_eval = result.as_dict()
        epoch = self.plan.lengths.epoch(done)
        if self.writer:
            self.writer.write("eval", done, epoch, **self.last_eval)
        self.progress.keep(
            f"epoch {epoch:.1f}: top-1 {result.top1:.4f}, top-5 {result.top5:.4f}, loss {result.loss:.4f} "
            f"on {counted(result.eval_examples, 'image')}"
        )
        return state

    def _synchronised(self, state: Tensors) -> Tensors:
        if all(p.bn_group == self.replica.world_size for p in self.plan.parts) or not self.model.layout.buffers.names:
            return state
        names = [n for n in ("buffers", "ema_buffers") if n in state]
        equal, _ = self.synchronise({n: state[n] for n in names}, {})
        return {**state, **equal}

    def _finish(self, state: Tensors) -> dict[str, Any]:
        """Save the weights and say how it went."""
        self.replica.wait()
        config, lengths = self.plan.config, self.plan.lengths
        host = {name: tensor.cpu() for name, tensor in state.items()} if self.replica.is_first else {}
        steps = ("train step", "eval step")
        summary = {
            "status": "done",
            **self.last_eval,
            "steps": lengths.total_steps,
            "epochs": lengths.epoch(lengths.total_steps),
            "replicas": self.replica.world_size,
            "global_batch": config.train.global_batch,
            "compiles": {name.removesuffix(" step"): watch.compiles(name) for name in steps},
            "other_compiles": watch.other_compiles(*steps),
            "cpu_fallbacks": watch.fallback_ops(),
            "device_reads": watch.transfers_from_device(),
            **self.meter.totals(),
            "data_retries": retries_so_far(),
            "capture_seconds": round(sum(step.capture_seconds for step in self.steps), 3),
            "wall_seconds": round(time.perf_counter() - self.started, 3),
        }
        if self.writer:
            summary["sha256"] = self._save_weights(host)
            for i, step in enumerate(self.steps):
                if step.hlo:
                    name = "train_step.hlo.pb" if len(self.steps) == 1 else f"train_step_{i + 1}.hlo.pb"
                    (self.folder / name).write_bytes(step.hlo)
            self.writer.write("event", lengths.total_steps, lengths.epoch(lengths.total_steps), event="done")
            self.writer.close()
        return summary

    def _save_weights(self, state: Tensors) -> dict[str, str]:
        """Save the weights of a state on the host; returns the checksum of each file by its name."""
        config, data = self.plan.config, self.plan.dataset
        arguments = timm_arguments(config.model, data.num_classes, config.data.image_size)
        facts = describe_weights(config, data.num_classes, data.class_names, arguments, versions())
        digests = save_weights(self.folder, state, self.model.layout, self.model.persistent(), facts)
        for name, digest in digests.items():
            self.progress.say(f"saved {name}, sha256 {digest}")
        return digests


def _describe(lengths: Lengths, phase: Phase) -> str:
    steps = lengths.steps_per_epoch(phase)
    return f"{phase.image_size} px, batch {phase.global_batch:,}, {steps:,.1f} steps an epoch"
