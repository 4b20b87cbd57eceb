"""The verb `plan`: a run's steps traced here, compiled by the TPU's compiler, and what that means for the run."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from xlatrain.compose import compose_config, groups, register_schemas, sweep_jobs
from xlatrain.config import Config
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, ConfigError, Fault, ReplicaError
from xlatrain.plan.compile import check_compiler, compile_step
from xlatrain.plan.estimate import Estimate, Step, estimate
from xlatrain.plan.page import write_page
from xlatrain.plan.report import print_estimate
from xlatrain.plan.search import largest_fitting
from xlatrain.plan.table import print_comparison
from xlatrain.preflight import Plan, check_train
from xlatrain.runs import free_name
from xlatrain.telemetry.run_folder import claimed_folder

if TYPE_CHECKING:
    from xlatrain.trace import TracedRun
    from xlatrain.xla.capture import ExportedStep

# What a plan is for unless the command says otherwise: ImageNet's size, the paper's number of epochs.
DEFAULTS = {"data": "synthetic", "augment": "none", "cluster": "tpu_v3_8", "train.duration": "350ep"}

Say = Callable[[str], None]


def plan(arguments: Sequence[str]) -> int:
    """`xlatrain plan [-m] [--json] [--check] [overrides]`. Returns the exit code: 1 if something does not fit."""
    flags = {a for a in arguments if a in ("-m", "--multirun", "--json", "--check")}
    overrides = [a for a in arguments if a not in flags]
    register_schemas()
    check_compiler()
    say = _reporter()
    if "--check" in flags:
        jobs = _recipes(overrides)
    else:
        jobs = sweep_jobs(with_defaults(overrides)) if flags & {"-m", "--multirun"} else [with_defaults(overrides)]
    plans, as_json = _checked(jobs), "--json" in flags
    if len(jobs) > 1:
        return _compare(jobs, plans, as_json, say)
    found = estimate_plan(plans[0], say)
    return _report(jobs, [found], as_json, say) if found.fits else _does_not_fit(found, as_json, say)


def _compare(jobs: list[list[str]], plans: list[Plan], as_json: bool, say: Say) -> int:
    """Estimate one after the other; one that does not compile is told and left out, and the exit code is 1."""
    done: list[tuple[list[str], Estimate]] = []
    for number, (job, checked) in enumerate(zip(jobs, plans, strict=True)):
        say(f"plan {number + 1} of {len(jobs)}: {' '.join(job)}")
        try:
            done.append((job, estimate_plan(checked, say)))
        except ReplicaError as error:
            if error.exit_code > 128:
                raise
            say(f"plan {number + 1} failed: {error.report.strip().splitlines()[-1]}")
    if not done:
        return EXIT_FAILED
    code = _report([job for job, _ in done], [found for _, found in done], as_json, say)
    return code if len(done) == len(jobs) else EXIT_FAILED


def estimate_plan(checked: Plan, say: Say) -> Estimate:
    """Trace both steps of a checked run in a child process, compile them, put the figures together."""
    traced = _trace(checked, say)
    train, evaluation = (_compile(step, checked, name, say) for name, step in traced.steps.items())
    return estimate(checked, train, evaluation, traced.parameters)


def _trace(checked: Plan, say: Say) -> TracedRun:
    from xlatrain.xla.launch import launch

    config = checked.config
    say(f"tracing {config.model.name} as one of {config.cluster.replicas:,} replicas")
    # Ops carry the names of their modules.
    return launch("xlatrain.trace:trace_run", checked, environment={"XLA_HLO_DEBUG": "1"})


def _compile(step: ExportedStep, checked: Plan, name: str, say: Say) -> Step:
    return compile_step(step.hlo, step.aliases, checked.config.cluster, f"{name} step", say)


def with_defaults(overrides: Sequence[str]) -> list[str]:
    """The overrides, before them what a plan is for where they leave it open."""
    named = {o.lstrip("+~").partition("=")[0].partition("@")[0] for o in overrides}
    recipe = any(o.startswith("recipe=") and o != "recipe=none" for o in overrides)
    # A recipe says all but where its data lie, which a plan need not know.
    wanted = {k: v for k, v in DEFAULTS.items() if k not in named and (not recipe or k == "data")}
    return [f"{k}={v}" for k, v in wanted.items()] + list(overrides)


def _checked(jobs: list[list[str]]) -> list[Plan]:
    """Every job composed and checked. Raises ConfigError with all faults."""
    plans, faults = [], []
    for job in jobs:
        try:
            config, _ = compose_config(job)
            faults += _cluster(config)
            if config.augment.sizes:
                cure = "plan each: data.image_size=128 train.global_batch=8192 augment.sizes=[]"
                faults.append(Fault("augment.sizes", "a plan is for images of one size", cure))
            plans.append(check_train(config))
        except ConfigError as error:
            faults += [f for f in error.faults if f not in faults]
    if faults:
        raise ConfigError(*faults)
    return plans


def _cluster(config: Config) -> list[Fault]:
    cluster = config.cluster
    if cluster.platform != "tpu" or cluster.chip is None or not cluster.topology:
        return [Fault("cluster", f"{cluster.name} is no TPU slice", "take one, as in cluster=tpu_v3_8")]
    devices = cluster.chip.devices * math.prod(cluster.topology)
    if devices != cluster.replicas:
        problem = f"{cluster.replicas} replicas on a topology of {cluster.topology} chips, which has {devices}"
        return [Fault("cluster.replicas", problem, f"take cluster.replicas={devices} or another cluster")]
    return []


def _recipes(overrides: Sequence[str]) -> list[list[str]]:
    """The jobs of --check: every recipe for its own cluster; where there is none, a small model on two slices."""
    recipes = [r for r in groups()["recipe"] if r != "none"]
    jobs = []
    for recipe in recipes:
        job = [f"recipe={recipe}", *overrides]
        if compose_config(job)[0].cluster.platform == "tpu":
            jobs.append(["data=synthetic", *job])
    small = ["model=test_efficientnet", "train.global_batch=64", "train.duration=1ep"]
    return jobs or [with_defaults([*small, f"cluster={c}", *overrides]) for c in ("tpu_v3_8", "tpu_v5e_8")]


def _does_not_fit(found: Estimate, as_json: bool, say: Say) -> int:
    """Say by how much, and find what would fit."""
    config = found.plan.config
    replicas = config.cluster.replicas
    local = config.train.global_batch // replicas
    say(f"does not fit: {max(0, found.train.needed - found.capacity):,} bytes over")

    def needed(images: int) -> int:
        smaller = dataclasses.replace(config, train=dataclasses.replace(config.train, global_batch=images * replicas))
        attempt = check_train(smaller)
        traced = _trace(attempt, say)
        # A step that fits a larger batch fits a smaller: it need not be compiled again.
        names = [name for name, step in (("train", found.train), ("eval", found.eval)) if not found.holds(step)]
        steps = [_compile(traced.steps[name], attempt, name, say) for name in names or ["train"]]
        size = max(step.needed for step in steps)
        # The compiler keeps some memory back: its verdict counts, not the sum.
        return size if all(step.fits for step in steps) else max(size, found.capacity + 1)

    largest = largest_fitting(needed, found.capacity, local, found.train.needed, say)
    found = dataclasses.replace(
        found,
        warnings=(*found.warnings, f"the largest local batch that fits is {largest} ({largest * replicas:,} in all)"),
    )
    _show(found, as_json, {"largest_local_batch": largest})
    return EXIT_FAILED


def _report(jobs: list[list[str]], estimates: list[Estimate], as_json: bool, say: Say) -> int:
    """Print, and leave plan.json and report.html in a folder."""
    rows: list[dict[str, Any]] = [{"overrides": j, **e.as_dict()} for j, e in zip(jobs, estimates, strict=True)]
    if len(estimates) == 1:
        _show(estimates[0], as_json)
    elif as_json:
        print(json.dumps(rows))  # noqa: T201
    else:
        print_comparison(jobs, estimates, _console())
    config = estimates[0].plan.config
    name = config.run.name or free_name(config.run.root, f"plan-{config.model.name}-{config.cluster.name}")
    with claimed_folder(config.run.root, name) as folder:
        (folder / "plan.json").write_text(json.dumps(rows if len(rows) > 1 else rows[0], indent=1))
        write_page(estimates, folder / "report.html")
    say(f"report: {Path(config.run.root) / name / 'report.html'}")
    return EXIT_DONE if all(e.fits for e in estimates) else EXIT_FAILED


def _show(found: Estimate, as_json: bool, more: dict[str, Any] | None = None) -> None:
    if as_json:
        print(json.dumps({**found.as_dict(), **(more or {})}))  # noqa: T201
    else:
        print_estimate(found, _console())


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def _reporter() -> Say:
    """Lines of progress on standard error, each with the seconds since the start."""
    started = time.perf_counter()
    return lambda text: sys.stderr.write(f"[{time.perf_counter() - started:6.1f} s] {text}\n")
