"""The verb `plan`: a run's steps traced here, compiled by the TPU's compiler, and what that means for the run."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from xlatrain.cli.sweep import sweep_jobs
from xlatrain.cli.verbs import take_flags
from xlatrain.config.choices import groups
from xlatrain.config.compose import register_schemas
from xlatrain.config.schema import Config
from xlatrain.console import stamped_lines
from xlatrain.credentials import masked
from xlatrain.engine.provenance import PLANNING, provenance
from xlatrain.engine.run import free_name
from xlatrain.engine.run_folder import claimed_folder
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, ConfigError, Fault, ReplicaError
from xlatrain.files import user_cache, write_json
from xlatrain.planning.batch import compiled_bytes
from xlatrain.planning.compile import check_compiler
from xlatrain.planning.estimate import Estimate
from xlatrain.planning.html_report import write_page
from xlatrain.planning.plan import (
    Say,
    check_plan,
    make_plan,
    plan_faults,
    with_defaults,
)
from xlatrain.planning.search import largest_fitting
from xlatrain.planning.table import print_comparison
from xlatrain.planning.terminal import print_estimate
from xlatrain.preflight.check import check
from xlatrain.preflight.checked import CheckedRun
from xlatrain.words import counted

Report = Callable[..., int]  # told estimates, prints and keeps them; returns the exit code


def plan(arguments: Sequence[str]) -> int:
    """`xlatrain plan [-m] [--json] [--check [--small]] [overrides]`. Returns the exit code: 1 if something does not
    fit."""
    flags, overrides = take_flags("plan", arguments)
    register_schemas()
    check_compiler()
    say = stamped_lines()
    if "--check" in flags and "--small" not in flags:
        runs = _recipes(overrides)
    elif "--check" in flags:
        runs = _checked(_small(overrides), check_plan)
    else:
        wanted = with_defaults(overrides)
        runs = _checked(sweep_jobs(wanted) if "--multirun" in flags else [wanted], check_plan)
    _see_writable(runs[0].config)
    report = partial(_report, masked(provenance(["xlatrain", "plan", *arguments], PLANNING)), "--json" in flags, say)
    if len(runs) > 1:
        return _compare(runs, report, say)
    found = make_plan(runs[0], say)
    return report([found]) if found.fits else _does_not_fit(found, report, say)


def _compare(runs: list[CheckedRun], report: Report, say: Say) -> int:
    """Estimate one after the other; one that does not compile is told and left out, and the exit code is 1."""
    done: list[Estimate] = []
    for number, run in enumerate(runs, 1):
        say(f"plan {number} of {len(runs)}: {' '.join(run.overrides)}")
        try:
            done.append(make_plan(run, say))
        except ReplicaError as error:
            if error.exit_code > 128:
                raise
            say(f"plan {number} failed: {error.report.strip().splitlines()[-1]}")
    if not done:
        return EXIT_FAILED
    code = report(done)
    return code if len(done) == len(runs) else EXIT_FAILED


def _checked(jobs: list[list[str]], check_one: Callable[[list[str]], CheckedRun]) -> list[CheckedRun]:
    """Every job composed and checked. Raises ConfigError with all faults."""
    runs, faults = [], []
    for job in jobs:
        try:
            runs.append(check_one(job))
        except ConfigError as error:
            faults += [f for f in error.faults if f not in faults]
    if faults:
        raise ConfigError(*faults)
    return runs


def _see_writable(config: Config) -> None:
    """See that the cache and the report's folder can be written, before minutes of work. Raises ConfigError."""
    for key, folder in (("XDG_CACHE_HOME", user_cache() / "plan"), ("run.root", Path(config.run.root))):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                Fault(key, f"{folder} cannot be made: {error.strerror}", "name a folder of yours")
            ) from None


def _recipes(overrides: Sequence[str]) -> list[CheckedRun]:
    """What --check compiles: every recipe for a TPU, for its own cluster, and of sizes in turn the last. A recipe
    leaves open where its data lie."""
    jobs = [["data=synthetic", f"recipe={recipe}", *overrides] for recipe in groups()["recipe"] if recipe != "none"]
    runs = [run for run in _checked(jobs, partial(check, starts=False)) if run.config.cluster.platform == "tpu"]
    runs = [check(_last_size(run), starts=False) if run.config.augment.sizes else run for run in runs]
    if faults := [fault for run in runs for fault in plan_faults(run)]:
        raise ConfigError(*faults)
    return runs


def _last_size(run: CheckedRun) -> list[str]:
    """The overrides of a run as its last size of images alone."""
    last = run.phases[-1]
    batch = f"train.global_batch={last.global_batch}"
    return [*run.overrides, "augment.sizes=[]", f"data.image_size={last.image_size}", batch]


def _small(overrides: Sequence[str]) -> list[list[str]]:
    """The jobs of --check --small: a small model on two slices, in a minute."""
    small = ["model=test_efficientnet", "train.global_batch=64", "train.duration=1ep"]
    return [with_defaults([*small, f"cluster={c}", *overrides]) for c in ("tpu_v3_8", "tpu_v5e_8")]


def _does_not_fit(found: Estimate, report: Report, say: Say) -> int:
    """Say by how much, find what would fit, and report."""
    run, config = found.run, found.run.config
    replicas, parts = config.cluster.replicas, config.gradient.accumulate
    over = max(found.train.needed, found.eval.needed) - found.capacity
    say(f"does not fit: {max(0, over):,} bytes over")
    if found.holds(found.train):
        advice = "the train step fits, the evaluation step does not: take a smaller eval.global_batch"
        return report([_warned(found, advice)])

    # A step that fits a larger batch fits a smaller: it need not be compiled again.
    needed = compiled_bytes(run, ["train"] + ([] if found.holds(found.eval) else ["eval"]), found.capacity, say)
    micro_batch = config.train.global_batch // (replicas * parts)
    largest = parts * largest_fitting(needed, found.capacity, micro_batch, found.train.needed, say)
    advice = f"the largest local batch that fits is {largest} ({largest * replicas:,} in all)"
    if not largest:
        advice = f"not even {counted(parts, 'image')} a replica fit{'' if parts > 1 else 's'}"
    return report([_warned(found, advice)], {"largest_local_batch": largest})


def _warned(found: Estimate, text: str) -> Estimate:
    return dataclasses.replace(found, warnings=(*found.warnings, text))


def _report(
    origin: Mapping[str, Any],
    as_json: bool,
    say: Say,
    estimates: list[Estimate],
    more: Mapping[str, Any] | None = None,
) -> int:
    """Print, and leave plan.json and report.html in a folder. origin: where the plans come from; more: further figures
    of a single plan."""
    jobs = masked([list(e.run.overrides) for e in estimates])
    rows: list[dict[str, Any]] = [
        {"overrides": j, **e.as_dict(), **(more or {}), **origin} for j, e in zip(jobs, estimates, strict=True)
    ]
    if as_json:
        print(json.dumps(rows[0] if len(rows) == 1 else rows))  # noqa: T201
    elif len(estimates) == 1:
        print_estimate(estimates[0], _console())
    else:
        print_comparison(jobs, estimates, _console())
    config = estimates[0].run.config
    name = config.run.name or free_name(config.run.root, f"plan-{config.model.name}-{config.cluster.name}")
    with claimed_folder(config.run.root, name) as folder:
        write_json(folder / "plan.json", rows if len(rows) > 1 else rows[0])
        write_page(estimates, jobs, origin, folder / "report.html")
    say(f"report: {Path(config.run.root) / name / 'report.html'}")
    return EXIT_DONE if all(e.fits for e in estimates) else EXIT_FAILED


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)
