"""A training run on one replica, from seed to summary."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xlatrain.checkpoint.manifest import step_of
from xlatrain.data.storage.retry import retries_so_far
from xlatrain.engine.anomalies import Anomalies
from xlatrain.engine.build import HostModel, open_train_loader
from xlatrain.engine.checkpoints import Checkpoints, Progress
from xlatrain.engine.contract import Tensors, TrainMetrics, TrainState
from xlatrain.engine.describe import describe_cache, describe_run
from xlatrain.engine.equality import check_replicas_equal
from xlatrain.engine.evaluate import Evaluator
from xlatrain.engine.goal import Goal
from xlatrain.engine.loggers.open import open_loggers
from xlatrain.engine.meter import Meter
from xlatrain.engine.metrics import METRICS, MetricsWriter
from xlatrain.engine.phases import PhaseSteps, build_models
from xlatrain.engine.profile import Profiler
from xlatrain.engine.progress import ProgressLine
from xlatrain.engine.rehearsal import rehearse
from xlatrain.engine.results import describe_machinery, write_programs, write_weights
from xlatrain.engine.run_folder import log_to, name_in
from xlatrain.engine.spent import COMPILE, EVALUATION, HOST, SAVING
from xlatrain.engine.step import average_buffers
from xlatrain.engine.stopping import Stop, begin, stopped
from xlatrain.engine.unplanned import Unplanned
from xlatrain.errors import DivergenceError
from xlatrain.preflight.checked import CheckedRun
from xlatrain.preflight.profile import profiled_steps
from xlatrain.words import counted
from xlatrain.xla import pulse
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.feed import DeviceFeed
from xlatrain.xla.heartbeat import BUILDING, STEP
from xlatrain.xla.replica import Replica


def train_replica(replica: Replica, run: CheckedRun, folder: Path, checkpoint: str | None = None) -> dict[str, Any]:
    """Train; returns the summary. Runs on every replica; the first one writes. checkpoint: the name of the one to go on
    from, if any, as the first replica is told it."""
    if replica.is_first:
        log_to(folder, [*run.notes, *filter(None, [describe_cache(run)])])
    with ProgressLine(run.lengths.total_steps, silent=not replica.is_first) as progress:
        return Trainer(replica, run, folder, progress, checkpoint).train()


class Trainer:
    """The parts of a run. `train` reads top to bottom: build, compare, loop, evaluate, save."""

    def __init__(self, replica: Replica, run: CheckedRun, folder: Path, progress: ProgressLine, checkpoint: str | None):
        self.replica, self.run, self.folder, self.progress = replica, run, folder, progress
        self.started = time.perf_counter()
        self.meter = Meter()
        pulse.mark(replica.ordinal, BUILDING, step_of(checkpoint) if checkpoint else 0)
        config, engine = run.config, run.config.engine
        say, compiling = progress.say, lambda: self.meter.spent.on(COMPILE)
        say(f"building {config.model.name} for {counted(replica.world_size, 'replica')}")
        models = build_models(run, replica)
        self.model: HostModel = models[-1]
        for text in describe_run(run, self.model.layout):
            say(text)
        self.phases = PhaseSteps(run, replica, models, say, compiling)
        self.evaluator = Evaluator(run.evaluation, self.model, replica, say, compiling)
        self.synchronise = CapturedStep(average_buffers, replica, "statistics step", engine.replay, compiling=compiling)
        self.checkpoints = Checkpoints(replica, run, folder, checkpoint, say, progress.keep)
        self.writer = self._open_writer(checkpoint) if replica.is_first else None
        self.stop = Stop(replica)
        self.profiler = Profiler(replica, profiled_steps(engine), folder, progress.keep)
        self.anomalies, self.goal = Anomalies(config.train.loss_spike), Goal(run)
        self.unplanned: Unplanned | None = None  # from the first step on
        self.last_eval: dict[str, Any] = {}
        self.equal = False  # whether statistics are, on all replicas: twice made so, they could be rounded twice
        self.running: deque[tuple[int, Tensors]] = deque()  # steps handed to the device whose metrics are not read yet

    def _open_writer(self, checkpoint: str | None) -> MetricsWriter:
        start = step_of(checkpoint) if checkpoint else None
        loggers = open_loggers(self.run.config.logger, self.folder, self.folder / METRICS, start, self.progress.keep)
        return MetricsWriter(self.folder, loggers)

    def train(self) -> dict[str, Any]:
        in_flight = self.run.config.engine.in_flight
        with self.checkpoints:
            state, start = self._begin()
            tables = self.replica.to_device(self.phases.programs[0].tables())
            self.phases.compile_ahead(state, tables, start.step)
            run, replica = self.run, self.replica
            loader = replica.shared("train-loader", lambda: open_train_loader(run, replica, start.position))
            feed = DeviceFeed(loader, replica)
            done, evaluated = start.step, start.evaluated
            if not evaluated and self._evaluation_due(done):  # it was asked to stop before it had evaluated
                state, evaluated = self._evaluate(state, done)
            elif evaluated:  # and it may have been ended between that and its end
                self._reaches(done)
            for number, batch in enumerate(self._batches(feed, start.step), start.step + 1):
                if self.stop.seen or self.goal.reached:
                    break
                if self.profiler.begins(number):
                    self._profile(self.profiler.begin, number)
                state, done, evaluated = self._step(state, {**batch, **tables}, number, feed.waited), number, False
                self._drain(but=in_flight - 1)
                if self.profiler.ends(done):
                    self._profile(self.profiler.end, done)
                if self._evaluation_due(done):
                    state, evaluated = self._evaluate(state, done)
                if self.checkpoints.due(done, evaluated) and not self.stop.seen:
                    self.save(state, done, evaluated)
                if self.goal.reached:
                    break
            self._drain()
            feed.close()
            if self.profiler.is_open:  # it was asked to stop meanwhile
                self._profile(self.profiler.end, done)
            if self.stop.seen:
                return self._stopped(state, done, evaluated)
            return self._finish(state, done)

    def _evaluation_due(self, done: int) -> bool:
        return done > 0 and self.run.lengths.due(self.run.lengths.eval_every, done)

    def _profile(self, act: Callable[[int], None], step: int) -> None:
        """Begin or end a profile, at which no step is under way; it takes no time of training."""
        self._drain()
        with pulse.saving(self.replica.ordinal, step), self.meter.pause(SAVING):
            act(step)

    def save(self, state: Tensors, done: int, evaluated: bool = False, wait: bool = False) -> bool:
        """Save all that the run is after so many steps; every replica has to come. Returns when the tensors are copied,
        or with `wait` when the checkpoint stands, then whether it does."""
        self._drain()
        with pulse.saving(self.replica.ordinal, done), self.meter.pause(SAVING):
            return self.checkpoints.save(
                state, done, self.model, self.meter.state(), self.last_eval, evaluated, self.equal, self.writer, wait
            )

    def _begin(self) -> tuple[Tensors, Progress]:
        """The state that the run begins with, on the device: of its seed, or of a checkpoint."""
        fresh = self.phases.programs[0].carry(self.replica.ordinal)
        host, start = self.checkpoints.begin(fresh)
        state = self.replica.to_device(host)
        check_replicas_equal(self.replica, self.run, state, start.step > 0 and self.checkpoints.differ)
        if self.replica.world_size > 1:
            self.progress.say(f"{counted(self.replica.world_size, 'replica')} hold equal weights")
        self.last_eval, self.equal = start.last_eval, start.equal
        if start.meter is not None:
            self.meter.restore(start.meter)
            if self.writer:
                self.writer.write("event", start.step, self.run.lengths.epoch(start.step), event="resumed")
        return state, start

    def _step(self, state: Tensors, inputs: Tensors, done: int, waited: float) -> Tensors:
        """Hand one step to the device."""
        self.meter.waited(waited)
        step = self.phases.of(done)
        if self.unplanned is None:
            step.prepare(state, inputs)
            begin()
            self.unplanned = Unplanned(self.replica, self.run.config.engine.strict, self.progress.keep)
        pulse.mark(self.replica.ordinal, STEP, done)
        with self.meter.host():
            state, outputs = step(state, {**inputs, **self.stop.input()})
        self.equal = False
        self.running.append((done, outputs))
        return state

    def _drain(self, but: int = 0) -> None:
        """Read what steps reported that are under way, but for so many of them."""
        while len(self.running) > but:
            self._read(*self.running.popleft())

    def _batches(self, feed: DeviceFeed, first: int) -> Iterator[Tensors]:
        """One for each step of the run from the first on; a failure that is rehearsed comes first. What comes before
        the first batch is the start."""
        batches, spent = iter(feed), self.meter.spent
        for step in range(first, self.run.lengths.total_steps):
            rehearse(self.run.config.engine, self.replica.ordinal, step)
            if step == first:
                batch = next(batches)  # of a feed that ends before the run, an error
                spent.turn_to(HOST)
            else:
                with spent.waiting_for_data(busy=bool(self.running)):
                    batch = next(batches)
            yield batch

    def _read(self, done: int, outputs: Tensors) -> None:
        """Read what a step reported, once it has run; log, and end a run that diverges."""
        with self.meter.spent.waiting_for_device():
            values = TrainMetrics.read(self.replica.to_host(outputs))
        lengths = self.run.lengths
        self.meter.step(values, self.run.phases[lengths.phase_number(done - 1)].global_batch)
        self.stop.read(values["stop"])
        in_a_row = int(values["skipped_in_a_row"])
        if in_a_row >= self.run.config.train.max_skipped_steps:
            steps = f"{counted(in_a_row, 'step')} in a row, {done - in_a_row + 1} to {done}"
            cure = "Lower optimizer.lr or lengthen schedule.warmup"
            raise DivergenceError(f"the gradient was not finite in {steps}; none was applied. {cure}")
        log = lengths.due(lengths.log_every, done)
        epoch = lengths.epoch(done)
        if log and self.replica.local_ordinal == 0:
            self.unplanned.look(done)
        for event in self.anomalies.of_step(values) if self.writer else ():
            self.writer.write("event", done, epoch, **event)
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

    def _evaluate(self, state: Tensors, done: int) -> tuple[Tensors, bool]:
        """Make the running statistics equal, evaluate the weights meant for use, report. Returns the state, and whether
        it was evaluated: not when the run is to stop."""
        self._drain()
        if self.stop.seen:
            return state, False
        state = self._synchronised(state)
        with self.meter.pause(EVALUATION):
            result = self.evaluator(TrainState.of(state).weights, self.stop, done)
        if result is None:
            return state, False
        self.last_eval = result.as_dict()
        epoch = self.run.lengths.epoch(done)
        if self.writer:
            self.writer.write("eval", done, epoch, **self.last_eval, spent=self.meter.spent.seconds())
        self.progress.keep(
            f"epoch {epoch:.1f}: top-1 {result.top1:.4f}, top-5 {result.top5:.4f}, loss {result.loss:.4f} "
            f"on {result.eval_examples} images"
        )
        self._reaches(done)
        return state, True

    def _reaches(self, done: int) -> None:
        """See whether the evaluation of this step is what the run is to reach, and say so."""
        epoch, spent = self.run.lengths.epoch(done), self.meter.spent.seconds()
        if self.goal.look(self.last_eval, done, epoch, self.meter.images, spent):
            self.progress.keep(self.goal.describe())
            if self.writer:
                self.writer.write("event", done, epoch, event="reached", until=self.run.config.train.until)

    def _synchronised(self, state: Tensors) -> Tensors:
        everywhere = all(p.bn_group == self.replica.world_size for p in self.run.phases)
        if everywhere or self.equal or not self.model.layout.buffers.names:
            return state
        self.equal = True
        equal, _ = self.synchronise(TrainState.of(state).statistics(), {})
        return {**state, **equal}

    def _stopped(self, state: Tensors, done: int, evaluated: bool) -> dict[str, Any]:
        """Save all, and say that the run was stopped."""
        lengths = self.run.lengths
        self.progress.say(f"stopping after step {done:,}")
        saved = self.save(state, done, evaluated, wait=True)
        name = name_in(self.run.config.run.root, self.folder)
        summary = stopped(self.stop.why, done, lengths.total_steps, name, saved)
        if self.writer:
            self.writer.write("event", done, lengths.epoch(done), event="stopped", by=self.stop.why)
            self.writer.close()
        self.progress.say(summary["report"])
        return {**self._figures(done), **summary}

    def _finish(self, state: Tensors, done: int) -> dict[str, Any]:
        """Save the weights and say how it went."""
        self._drain()
        self.meter.spent.turn_to(SAVING)
        self.replica.wait()
        host = self.replica.to_host(state) if self.replica.is_first else {}
        lengths = self.run.lengths
        summary = {"status": "done", **self.last_eval, **self._figures(done), **self.goal.figures()}
        if self.writer:
            summary["sha256"] = write_weights(self.folder, self.run, self.model, TrainState.of(host), self.progress.say)
            write_programs(self.folder, [step.hlo for step in self.phases.steps])
            self.writer.write("event", done, lengths.epoch(done), event="done")
            self.writer.close()
        return summary | self._times()

    def _figures(self, done: int) -> dict[str, Any]:
        """What the summary says of so many steps."""
        return {
            "steps": done,
            "epochs": self.run.lengths.epoch(done),
            **describe_machinery(self.replica, self.run),
            **self.meter.totals(),
            **self.checkpoints.figures(),
            "data_retries": retries_so_far(),
            "capture_seconds": round(sum(step.capture_seconds for step in self.phases.steps), 3),
            **self._times(),
        }

    def _times(self) -> dict[str, Any]:
        return {"spent": self.meter.spent.seconds(), "wall_seconds": round(time.perf_counter() - self.started, 3)}
