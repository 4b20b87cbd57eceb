"""From a command's overrides to its jobs: one, or with -m the jobs of a Hydra multirun."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.table import Table

from xlatrain import runs
from xlatrain.check_eval import check_eval
from xlatrain.compose import CONF, compose_config, given_keys, register_schemas, sweep_jobs, to_config
from xlatrain.config import Config
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, ConfigError, Fault, ReplicaError
from xlatrain.preflight import Plan, check_train
from xlatrain.show import show_schedule
from xlatrain.telemetry.console import make_console
from xlatrain.telemetry.run_folder import claimed_folder
from xlatrain.verbs import take_flags

Check = Callable[[Config], Plan]
Run = Callable[..., dict[str, Any]]


def run_jobs(verb: str, arguments: Sequence[str]) -> int:
    """Check every job, then run them. Returns the exit code; raises ConfigError before anything is started."""
    register_schemas()
    flags, overrides = take_flags(verb, arguments)
    evaluation = runs.evaluate, partial(check_eval, given=given_keys(overrides))
    run, check = {"train": (runs.train, check_train), "eval": evaluation}[verb]
    if "--multirun" not in flags:
        if faults := find_faults(overrides, check):
            raise ConfigError(*faults)
        config, _ = compose_config(overrides)
        summary = run(config, overrides)
        print_summary(summary)
        return EXIT_DONE
    return _sweep(run, check, overrides)


def show(arguments: Sequence[str]) -> int:
    """`xlatrain show schedule [out=FILE] [overrides]`. Raises ConfigError."""
    if not arguments or arguments[0] != "schedule":
        raise ConfigError(Fault("show", " ".join(arguments[:1]) or "nothing to show", "write xlatrain show schedule"))
    register_schemas()
    flags, overrides = take_flags("show", arguments[1:])
    out = Path(flags.get("out", "schedule.png"))
    if faults := _picture(out) + find_faults(overrides, check_train):
        raise ConfigError(*faults)
    show_schedule(check_train(compose_config(overrides)[0]), out)
    return EXIT_DONE


def _picture(path: Path) -> list[Fault]:
    """Whether a picture can be written there."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        return [Fault("out", f"{path} is no picture", "give out=FILE.png, .svg or .pdf")]
    if path.is_dir() or not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        return [Fault("out", f"{path} cannot be written", "name a file in a folder of yours")]
    return []


def find_faults(overrides: Sequence[str], check: Check) -> list[Fault]:
    """All that is wrong with a job: with its overrides, and with what the sound ones of them come to."""
    faults: list[Fault] = []
    try:
        config, _ = compose_config(overrides)
    except ConfigError as error:
        faults += error.faults
        try:
            config, _ = compose_config(error.usable, fill=True)
        except ConfigError:
            return faults
    try:
        check(config)
    except ConfigError as error:
        known = {f.key for f in faults}
        faults += [f for f in error.faults if f.key not in known]
    return faults


def _sweep(run: Run, check: Check, overrides: list[str]) -> int:
    """Check all jobs of a sweep, hand it to Hydra (its sweeper and launcher apply), print a table of results."""
    all_jobs = sweep_jobs([o for o in overrides if not o.startswith("hydra")])
    faults: list[Fault] = []
    for overrides_of_job in all_jobs:
        faults += [f for f in find_faults(overrides_of_job, check) if f not in faults]
    if faults:
        raise ConfigError(*faults)
    first, _ = compose_config(all_jobs[0])
    name = first.run.name or runs.free_name(first.run.root, "sweep")

    def job(composed: DictConfig) -> None:
        job_overrides = list(HydraConfig.get().overrides.task)
        number = HydraConfig.get().job.num
        sys.stderr.write(f"\njob {number}: {' '.join(job_overrides)}\n")
        try:
            run(to_config(composed), job_overrides, f"{name}/{number}")
        except ReplicaError as error:
            sys.stderr.write(f"\n{error.report.rstrip()}\n")
            if error.exit_code > 128:
                raise SystemExit(error.exit_code) from None

    argv = sys.argv
    with claimed_folder(first.run.root, name) as folder:
        sys.argv = ["xlatrain", "-m", f"hydra.sweep.dir='{folder}'", *overrides]
        try:
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
        finally:
            sys.argv = argv
        return _print_results(folder)


def print_summary(summary: dict[str, Any]) -> None:
    """What a run came to, as a small table."""
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "top-1": "top1",
        "top-5": "top5",
        "loss": "loss",
        "images evaluated": "eval_examples",
        "steps": "steps",
        "replicas": "replicas",
        "images/s": "images_per_second",
        "host ms per step": "host_ms_per_step",
        "waiting for data": "data_wait_fraction",
        "compiles": "compiles",
        "seconds": "wall_seconds",
        "run": "run",
    }
    for label, key in rows.items():
        if key in summary:
            value = summary[key]
            table.add_row(label, _fraction(value) if key in ("top1", "top5", "loss") else str(value))
    make_console().print(table)


def _fraction(value: float | None) -> str:
    """Four digits; a value that was not finite is null in JSON."""
    return "nan" if value is None else f"{value:.4f}"


def _print_results(folder: Path) -> int:
    """The table that ends a sweep, the best top-1 marked. Returns the exit code."""
    files = sorted(folder.glob("*/summary.json"), key=lambda p: int(p.parent.name))
    summaries = [json.loads(p.read_text()) for p in files]
    best = max((s["top1"] for s in summaries if s.get("top1") is not None), default=None)
    common = set.intersection(*(set(s["overrides"]) for s in summaries)) if len(summaries) > 1 else set()
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "overrides", "status", "top-1", "top-5", "loss", "images/s", "seconds"):
        table.add_column(heading, no_wrap=heading != "overrides", overflow="fold")
    for s in summaries:
        own = " ".join(o for o in s["overrides"] if o not in common)
        results = [s.get("error", "")]
        if s["status"] == "done":
            mark = " best" if s["top1"] == best else ""
            results = [
                _fraction(s["top1"]) + mark,
                _fraction(s["top5"]),
                _fraction(s["loss"]),
                str(s.get("images_per_second", "")),
                f"{s['wall_seconds']:.1f}",
            ]
        table.add_row(Path(s["run"]).name, own, s["status"], *results)
    console = make_console()
    console.print(f"\n{folder}" + (f": {' '.join(sorted(common))}" if common else ""))
    console.print(table)
    return EXIT_DONE if summaries and all(s["status"] == "done" for s in summaries) else EXIT_FAILED
