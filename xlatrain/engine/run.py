"""One job of the command line, in the parent process: claim a folder, launch the replicas, write the summary."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import tempfile
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from xlatrain.config.schema import Config
from xlatrain.console import say
from xlatrain.credentials import masked
from xlatrain.engine.checkpoint_store import checkpoint_store
from xlatrain.engine.metrics import CUT, cut_metrics, wait_for_writer
from xlatrain.engine.provenance import provenance, used_by
from xlatrain.engine.resume import NEVER, Start, find_start, with_notes
from xlatrain.engine.run_folder import claimed_folder, held_folder, written_to
from xlatrain.engine.spent import STARTING
from xlatrain.errors import ConfigError, Fault, ReplicaError, StoppedError
from xlatrain.files import write_json
from xlatrain.preflight.check import check, check_evaluation
from xlatrain.preflight.checked import CheckedEvaluation, CheckedRun
from xlatrain.words import counted
from xlatrain.xla.heartbeat import ELSEWHERE, FOLDER, last_step

_TARGETS = {"train": "xlatrain.engine.train:train_replica", "eval": "xlatrain.engine.evaluate:evaluate_replica"}

_NOTHING_LEFT = (
    ": nothing is left to do. A longer train.duration goes on with it, run.resume=never starts a new run beside it"
)

logger = logging.getLogger("xlatrain")


def train(run: CheckedRun | Sequence[str] = (), name: str | None = None) -> dict[str, Any]:
    """Train a checked run, or one of these overrides, and return the summary, which is also in summary.json.

    name: the folder under run.root, if not run.name. Raises ConfigError before any device is touched, and ReplicaError
    with the traceback of the replica that failed first. A script that calls this needs the usual guard, if __name__ ==
    "__main__", since replicas live in child processes. A run that was asked to stop raises StoppedError."""
    run = run if isinstance(run, CheckedRun) else check(run)
    one_of_many, name = name is not None, name or _default_name(run.config, "")
    if run.config.run.resume == NEVER:
        name = name_beside(run.config, name)
    folder = Path(run.config.run.root) / name
    if run.config.cluster.host:  # machine 0 has the folder, and the replica that writes to it
        return _launch("train", run, folder, None)
    if folder.exists():
        with held_folder(folder) as held:
            wait_for_writer(held)
            start = find_start(run, held, say)
            if start.finished or start.manifest:
                return _go_on(held, start, one_of_many)
    with claimed_folder(run.config.run.root, name) as folder:
        start = find_start(run, folder, say)  # where the folder is new, but not the checkpoints elsewhere
        return _go_on(folder, start, one_of_many)


def _go_on(folder: Path, start: Start, one_of_many: bool) -> dict[str, Any]:
    """Train from a start on; of a finished run say that it is, and what there is to do, unless it is a job of many."""
    run = start.run
    if start.finished:
        say(f"{folder} is finished after {start.finished['steps']:,} steps{'' if one_of_many else _NOTHING_LEFT}")
        return start.finished
    if start.manifest:
        with written_to(folder):
            (folder / "summary.json").unlink(missing_ok=True)
            evaluated = start.manifest.facts.get("metrics") is not None
            cut = cut_metrics(folder, start.manifest.step, evaluated)
        if cut:
            note = f"{counted(cut, 'line')} of metrics.jsonl after step {start.manifest.step:,} went to {CUT}"
            run = with_notes(run, note)
    elif run.origin is None and (run.config.weights is not None or run.config.model.pretrained):
        problem = f"{folder} has no checkpoint that stands, and its weights were not read, since it seemed to have one"
        raise ConfigError(Fault("run.name", problem, "remove what is in its checkpoints, or take another run.name"))
    return _run_in("train", run, folder, start.checkpoint)


def name_beside(config: Config, name: str) -> str:
    """A name that no run has: the name itself, or NAME-2, NAME-3, ..."""
    root = Path(config.run.root)
    for number in itertools.count(1):
        free = name if number == 1 else f"{name}-{number}"
        if not (root / free).exists() and not checkpoint_store(config, root / free).names():
            if number > 1:
                say(f"{root / name} stays as it is; the new run is {free}")
            return free
    raise AssertionError("numbers have no end")


def evaluate(evaluation: CheckedEvaluation | Sequence[str], name: str | None = None) -> dict[str, Any]:
    """Evaluate saved weights. As train."""
    evaluation = evaluation if isinstance(evaluation, CheckedEvaluation) else check_evaluation(evaluation)
    name = name or _default_name(evaluation.config, "eval-")
    if evaluation.config.cluster.host:
        return _launch("eval", evaluation, Path(evaluation.config.run.root) / name)
    with claimed_folder(evaluation.config.run.root, name) as folder:
        return _run_in("eval", evaluation, folder)


def _default_name(config: Config, prefix: str) -> str:
    return config.run.name or free_name(config.run.root, f"{prefix}{config.model.name}-{config.data.name}")


def _launch(verb: str, checked: CheckedRun | CheckedEvaluation, folder: Path, *more: Any) -> dict[str, Any]:
    """Run a verb on its replicas; more: what it takes beside what was checked and the folder."""
    from xlatrain.xla.launch import launch
    from xlatrain.xla.replica_main import Watch

    config = checked.config
    with contextlib.ExitStack() as stack:
        heartbeats = folder / FOLDER
        if config.cluster.host:  # which has no folder of the run
            named = os.environ.get(ELSEWHERE)
            heartbeats = Path(named or stack.enter_context(tempfile.TemporaryDirectory(prefix="xlatrain-heartbeats-")))
        watch = Watch(heartbeats, config.engine.stall_after, stoppable=verb == "train")
        # Ops then know the modules that they come from.
        names = {"XLA_HLO_DEBUG": "1"} if verb == "train" and config.engine.profile is not None else {}
        summary = launch(_TARGETS[verb], checked, folder, *more, environment=names, watch=watch, **placement(config))
    if summary["status"] == "stopped":
        report = summary.pop("report")
        raise StoppedError(report, summary["stopped_by"], summary) if summary["saved"] else ReplicaError(report)
    return summary


def placement(config: Config) -> dict[str, Any]:
    """Where the replicas of a checked configuration are launched, as arguments of xla.launch."""
    from xlatrain.xla.jax_start import Hosts

    cluster, kept = config.cluster, config.engine.compile_cache_gb
    return {
        "platform": cluster.platform,
        "replicas": cluster.replicas,
        "runtime": config.engine.runtime,
        "processes": (cluster.processes_per_host or 1) if cluster.platform == "cpu" else 1,
        "cache_bytes": None if kept is None else round(kept * 1e9),
        "hosts": Hosts(cluster.hosts or 1, cluster.host or 0, cluster.coordinator),
    }


def _run_in(verb: str, checked: CheckedRun | CheckedEvaluation, folder: Path, *more: Any) -> dict[str, Any]:
    """Run a verb in a folder that is held, and write there what it was and what came of it."""
    started, overrides = time.perf_counter(), list(checked.overrides)
    origin = masked(provenance(["xlatrain", verb, *overrides], used_by(checked.config)))
    with written_to(folder):
        write_config(_next_config(folder), checked.config, origin)
        (folder / FOLDER).mkdir(exist_ok=True)
    about = {"run": str(folder), "overrides": overrides, "provenance": origin}
    for note in checked.notes:
        say(note)
    try:
        summary = _launch(verb, checked, folder, *more)
    except ReplicaError as error:
        try:
            with (folder / "train.log").open("a") as log:
                log.write(masked("".join(f"{part.rstrip()}\n" for part in (error.stacks, error.report) if part)))
            write_json(folder / "summary.json", masked({**_of_end(error, folder), **about}))
        except OSError as problem:  # the disk is full: why the run ended matters more
            say(f"warning: how the run ended could not be written to {folder}: {problem.strerror or problem}")
        raise
    wall = time.perf_counter() - started
    if "spent" in summary:  # to which this process adds what it took to start the replicas, and to see them end
        summary["spent"][STARTING] = round(summary["spent"][STARTING] + wall - summary["wall_seconds"], 4)
    summary |= {"wall_seconds": round(wall, 3), **about}
    try:
        write_json(folder / "summary.json", masked(summary))
    except OSError as problem:
        why = f"summary.json could not be written to {folder}: {problem.strerror or problem}"
        raise ReplicaError(f"the run came to its end, but {why}; the same command goes on with it") from None
    return summary


def _of_end(error: ReplicaError, folder: Path) -> dict[str, Any]:
    """What the summary says of a run that did not come to its end."""
    steps = last_step(folder / FOLDER)
    if isinstance(error, StoppedError):
        return {"status": "stopped", "stopped_by": error.why, "steps": steps, **error.summary}
    return {"status": "failed", "steps": steps, "error": error.report.strip().splitlines()[-1]}


def _next_config(folder: Path) -> Path:
    """Where the options of a start are written down: config.yaml, that of the second config.2.yaml, ..."""
    later = (folder / f"config.{number}.yaml" for number in itertools.count(2))
    return next(path for path in itertools.chain([folder / "config.yaml"], later) if not path.exists())


def write_config(path: Path, config: Config, origin: dict[str, Any]) -> None:
    """Write a configuration as YAML that composes again, where it comes from as comments above it. Credentials in URLs
    are masked."""
    header = yaml.safe_dump(origin, sort_keys=False, allow_unicode=True, width=math.inf)
    content = OmegaConf.create(masked(OmegaConf.to_container(OmegaConf.structured(config))))
    path.write_text(textwrap.indent(header, "# ") + OmegaConf.to_yaml(content))


def free_name(root: str, prefix: str) -> str:
    """A name for a run that has none: the prefix and the time, and a number where that is taken."""
    name = f"{prefix}-{time.strftime('%Y%m%d-%H%M%S')}"
    numbered = (f"{name}-{i}" for i in itertools.count(2))
    return next(n for n in itertools.chain([name], numbered) if not (Path(root) / n).exists())
