"""Where a run starts that is there already, decided by the parent process: from its newest sound checkpoint, nowhere
since it is finished, or at step 0 since nothing was saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xlatrain.checkpoint.manifest import Manifest
from xlatrain.checkpoint.read import find_newest
from xlatrain.config.option import settings
from xlatrain.config.override import given_keys
from xlatrain.config.schema import Config
from xlatrain.credentials import masked
from xlatrain.engine.checkpoint_store import checkpoint_store
from xlatrain.engine.run_folder import name_in, read_options, read_summary
from xlatrain.errors import ConfigError, Fault
from xlatrain.preflight.checked import CheckedRun

FORCE, NEVER = "force", "never"  # of run.resume
_AFRESH = "run.resume=never starts a new run beside it"


@dataclass(frozen=True)
class Start:
    """run: what is started. manifest: of the checkpoint to go on from; None for step 0. finished: the summary, where
    nothing is left to do."""

    run: CheckedRun
    manifest: Manifest | None = None
    finished: dict[str, Any] | None = None

    @property
    def checkpoint(self) -> str | None:
        return self.manifest.name if self.manifest else None


def find_start(run: CheckedRun, folder: Path, report: Callable[[str], None]) -> Start:
    """Where the run in a folder goes on. report: told of what is passed over. Raises ConfigError when options that
    matter have changed, and when there are checkpoints and none is sound."""
    summary = _summary(folder)
    until = run.config.train.until
    reached = until is not None and summary and summary.get("reached") and summary.get("until") == until
    if summary and (reached or run.lengths.total_steps == summary["steps"]):
        run = _as_before(run, before := read_options(folder / "config.yaml"))
        _compare(run, before, str(folder))
        return Start(run, finished=summary)
    store = checkpoint_store(run.config, folder)
    try:
        found = find_newest(store, report)
    except OSError as error:
        problem = f"{store.place} cannot be looked into: {error}"
        raise ConfigError(Fault("checkpoint.folder", problem, "make it readable, or name another folder")) from None
    if found.manifest is None:
        if found.damaged:
            problem = f"of the checkpoints in {store.place} none is sound"
            raise ConfigError(Fault("run.name", problem, f"put back a copy of one, or {_AFRESH}"))
        if summary:
            problem = f"{folder} is finished after {summary['steps']:,} steps, and no checkpoint of it is left"
            raise ConfigError(Fault("train.duration", problem, f"take that of before, or {_AFRESH}"))
        return Start(run)
    manifest = found.manifest
    if manifest.step > run.lengths.total_steps:
        problem = f"{run.config.train.duration} is {run.lengths.total_steps:,} steps, and {manifest.step:,} are done"
        raise ConfigError(Fault("train.duration", problem, f"lengthen it, or {_AFRESH}"))
    run = _as_before(run, before := manifest.facts["config"])
    notes = _compare(run, before, f"{store.place}/{manifest.name}")
    if (samples := manifest.facts["samples"]) != run.dataset.train.samples:
        problem = f"{run.dataset.train.samples:,} images to train on, and there were {samples:,}"
        raise ConfigError(Fault("data", problem, f"take the data of before, or {_AFRESH}"))
    total = f"{manifest.step:,} of {run.lengths.total_steps:,} steps are done"
    name = name_in(run.config.run.root, folder)
    return Start(with_notes(run, *notes, f"{name} goes on from {manifest.name}: {total}"), manifest)


def with_notes(run: CheckedRun, *notes: str) -> CheckedRun:
    """The run, which says these first."""
    return replace(run, notes=(*run.notes, *notes))


def _as_before(run: CheckedRun, before: dict[str, Any]) -> CheckedRun:
    """The run with data.streams as they were, if nobody asked for others: null depends on the workers, which may
    change, and the same streams give the same batches whoever reads them."""
    streams, data = before.get("data.streams"), run.config.data
    if streams in (None, getattr(data, "streams", None)) or "data.streams" in given_keys(run.overrides):
        return run
    split = replace(run.dataset.train, config=replace(run.dataset.train.config, streams=streams))
    config = replace(run.config, data=replace(data, streams=streams))
    return replace(run, config=config, dataset=replace(run.dataset, train=split))


def changes(before: dict[str, Any], config: Config) -> list[tuple[str, Any, Any]]:
    """Options that matter and are others than before: key, what it was, what it is. Of options that only one of the two
    has, as those of another optimizer, the name tells enough."""
    found = []
    for key, (value, may_change) in settings(config).items():
        now = json.loads(json.dumps(masked(value)))
        if not may_change and key in before and before[key] != now:
            found.append((key, before[key], now))
    return found


def _compare(run: CheckedRun, before: dict[str, Any], what: str) -> tuple[str, ...]:
    changed = changes(before, run.config)
    if changed and run.config.run.resume != FORCE:
        raise ConfigError(*(_fault(key, old, new, what) for key, old, new in changed))
    return tuple(f"warning: {key} is {new} from here on, it was {old} before" for key, old, new in changed)


def _fault(key: str, old: Any, new: Any, what: str) -> Fault:
    choice = key if key == "model.name" else key.removesuffix(".name")  # optimizer=lars sets optimizer.name
    cure = f"take {choice}={_shown(old)}, or run.resume=force goes on with what it is now; {_AFRESH}"
    return Fault(key, f"is {_shown(new)} now and was {_shown(old)} in {what}", cure)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a run that trained to its end."""
    summary = read_summary(folder)
    done = summary.get("status") == "done" and isinstance(summary.get("steps"), int)
    return summary if done else None
