"""A trainer's checkpoints: where it starts, when it saves, and what."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xlatrain.checkpoint.background import Saver
from xlatrain.checkpoint.keep import Rule
from xlatrain.checkpoint.manifest import DamagedError, Manifest, number, step_of
from xlatrain.checkpoint.read import read_manifest, read_tensors
from xlatrain.config.option import settings
from xlatrain.config.schema import Config
from xlatrain.credentials import masked
from xlatrain.data.dataset import position_after
from xlatrain.data.order import Leg, Position
from xlatrain.engine.build import HostModel
from xlatrain.engine.checkpoint_store import checkpoint_store
from xlatrain.engine.contract import Tensors
from xlatrain.engine.metrics import MetricsWriter
from xlatrain.engine.provenance import used_by, versions
from xlatrain.engine.snapshot import Snapshot, give_back
from xlatrain.errors import CheckpointError
from xlatrain.preflight.checked import CheckedRun
from xlatrain.preflight.lengths import parse_duration
from xlatrain.preflight.resolve import AT_EVALUATIONS
from xlatrain.xla.replica import Replica

_FINISHES = 30.0  # seconds that a failing run waits for what is being saved


@dataclass(frozen=True)
class Progress:
    """How far a run has come, beside its tensors. step: steps done. meter: as of Meter.state; None at the beginning.
    last_eval: what the last evaluation said; evaluated: it was of this step. equal: statistics are those of all
    replicas already, as an evaluation begins by making them so, though it may have been broken off."""

    step: int = 0
    position: Position = Position()
    last_eval: dict[str, Any] = field(default_factory=dict)
    meter: dict[str, Any] | None = None
    evaluated: bool = False
    equal: bool = False

    @classmethod
    def of(cls, manifest: Manifest) -> Progress:
        facts = manifest.facts
        position = Position(**{**facts["position"], "legs": tuple(Leg(**leg) for leg in facts["position"]["legs"])})
        last_eval = {name: number(value) for name, value in facts["last_eval"].items()}
        evaluated = facts["metrics"] is not None
        return cls(manifest.step, position, last_eval, facts["meter"], evaluated, facts.get("equal", evaluated))


def saved_settings(config: Config) -> dict[str, Any]:
    """What a checkpoint knows of a configuration: every option by its key; credentials masked."""
    return masked({key: value for key, (value, _) in settings(config).items()})


class Checkpoints:
    """Of one replica; the first one writes. Waits, when it ends, for what is being saved.

    start: the name of the checkpoint that the run goes on from, as the first replica has it. say, warn: lines for
    people.
    """

    def __init__(
        self,
        replica: Replica,
        run: CheckedRun,
        folder: Path,
        start: str | None,
        say: Callable[[str], None],
        warn: Callable[[str], None],
    ):
        self.replica, self.run, self._say = replica, run, say
        options = run.config.checkpoint
        self.start = replica.agree(start)
        self._store = checkpoint_store(run.config, folder)
        self._snapshot = Snapshot(replica, run, run.config.engine.replay)
        self._saver = Saver(self._store, Rule(options.keep, options.best), say, warn)
        self._progress = Progress()
        self.wait_seconds = 0.0

    def begin(self, fresh: Tensors) -> tuple[Tensors, Progress]:
        """The state that the run begins with, on the host, and how far it has come. fresh: that of before step 0.
        Raises CheckpointError."""
        if self.start is None:
            return fresh, self._progress
        try:
            manifest = self.replica.shared("manifest", lambda: read_manifest(self._store, self.start))
            saved = self.replica.shared("saved state", lambda: read_tensors(self._store, self.start))
            self._progress = Progress.of(manifest)
        except (DamagedError, KeyError, TypeError, ValueError) as error:
            what = error if isinstance(error, DamagedError) else f"its manifest lacks what is needed ({error!r})"
            raise CheckpointError(
                f"the checkpoint {self._store.place}/{self.start} cannot be gone on from: {what}. Every machine has to "
                "see it: name a folder or a URL that they share, checkpoint.folder=..."
            ) from None
        groups, replica = self._snapshot.groups, self.replica
        seed = self.run.config.train.seed
        state, averaged = give_back(saved, manifest.facts["groups"], fresh, groups, seed, replica.ordinal)
        self._say(f"goes on from {self.start}, saved by {manifest.facts['replicas']} replicas")
        if averaged:
            self._say("batch norm statistics of groups are averaged: the groups are others than before")
        if replica.is_first:
            self._saver.known = {n for name in self._store.names() if (n := step_of(name)) <= manifest.step}
        replica.barrier()
        for name in ("manifest", "saved state"):
            replica.unshare(name)
        return state, self._progress

    @property
    def differ(self) -> bool:
        """Whether replicas may hold statistics of their own."""
        return len(self._snapshot.groups) > 1

    def due(self, done: int, evaluated: bool) -> bool:
        """Whether the state after so many steps is to be saved."""
        every = self.run.config.checkpoint.every
        if every is None or every == AT_EVALUATIONS:
            return evaluated and every is not None
        return self.run.lengths.due(parse_duration(every), done)

    def save(
        self,
        state: Tensors,
        done: int,
        model: HostModel,
        meter: dict[str, Any],
        last_eval: dict[str, Any],
        evaluated: bool,
        equal: bool,
        writer: MetricsWriter | None,
        wait: bool,
    ) -> bool:
        """Save the state after so many steps: returns when the tensors are copied, or with `wait` when all is safe,
        then whether it is. evaluated: just before. equal: statistics are, on all replicas. Every replica has to come.
        One that is due while the one before is still being written is left out, unless it is waited for."""
        if wait:
            self._saver.finish()
        started = time.perf_counter()
        busy, there = self._saver.busy, done in self._saver.known
        if busy:
            self._say(f"no checkpoint of step {done:,}: the one before is still being written")
        if self.replica.agree(busy or there):
            return True
        tensors = self._snapshot.take(state, equal)
        if writer:
            facts = self._facts(done, model, meter, last_eval, evaluated) | {"equal": equal}
            seconds = time.perf_counter() - started
            self.wait_seconds += seconds
            epoch = self.run.lengths.epoch(done)
            writer.write("event", done, epoch, event="checkpoint", wait_seconds=round(seconds, 4))
            self._saver.save(done, tensors, facts, writer.sync)
        stood = self._saver.finish() if wait else True
        self.replica.barrier()  # the others would wait in a collective meanwhile
        return self.replica.agree(stood) if wait else True

    def _facts(
        self, done: int, model: HostModel, meter: dict[str, Any], last_eval: dict[str, Any], evaluated: bool
    ) -> dict[str, Any]:
        run, replica, before = self.run, self.replica, self._progress
        config, lengths = run.config, run.lengths
        position = position_after(run.dataset.train, config.train.seed, run.phases, before.position, done - before.step)
        self._progress = Progress(done, position)
        keep = config.checkpoint.keep_every
        last = max(self._saver.known, default=0)
        return {
            "for_good": keep is not None and lengths.passed(parse_duration(keep), last, done),
            "metrics": last_eval if evaluated else None,
            "versions": versions(used_by(config)),
            "replicas": replica.world_size,
            "processes": replica.processes,
            "groups": self._snapshot.groups,
            "phase": lengths.phase_number(done - 1),
            "samples": run.dataset.train.samples,
            "position": asdict(position),
            "last_eval": last_eval,
            "meter": meter,
            "config": saved_settings(config),
            "layout": {name: part.places() for name, part in model.layout.parts},
        }

    def figures(self) -> dict[str, Any]:
        """Of this start, for the summary, once all is saved."""
        self._saver.finish()
        saver = self._saver
        return {
            "resumed_from_step": step_of(self.start) if self.start else None,
            "checkpoints_saved": saver.saved,
            "checkpoints_failed": saver.failed,
            "checkpoint_wait_seconds": round(self.wait_seconds, 3),
            "checkpoint_write_seconds": round(saver.seconds, 3),
        }

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._saver.finish(_FINISHES)
