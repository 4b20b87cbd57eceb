"""The verb `plan`: a run's steps traced here, compiled by the TPU's compiler, and what that means for the run."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from xlatrain.cli.sweep import sweep_jobs
from xlatrain.cli.verbs import VERBS, take_flags
from xlatrain.config.compose import compose_config, groups, register_schemas
from xlatrain.config.schema import Config
from xlatrain.console import stamped_lines
from xlatrain.credentials import masked
from xlatrain.engine.provenance import provenance
from xlatrain.engine.run import free_name
from xlatrain.engine.run_folder import claimed_folder
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, ConfigError, Fault, ReplicaError
from xlatrain.files import user_cache
from xlatrain.planning.compile import CHIPS, check_compiler, compile_step
from xlatrain.planning.estimate import Estimate, Step, estimate
from xlatrain.planning.page import write_page
from xlatrain.planning.report import print_estimate
from xlatrain.planning.search import largest_fitting
from xlatrain.planning.table import print_comparison
from xlatrain.preflight.check import Plan, check_train
from xlatrain.words import counted

if TYPE_CHECKING:
    from xlatrain.planning.trace import TracedRun
    from xlatrain.xla.capture import ExportedStep

Say = Callable[[str], None]
Report = Callable[..., int]  # told jobs and their estimates, prints and keeps them; returns the exit code


def plan(arguments: Sequence[str]) -> int:
    """`xlatrain plan [-m] [--json] [--check [--small]] [overrides]`. Returns the exit code: 1 if something does not
    fit."""
    flags, overrides = take_flags("plan", arguments)
    register_schemas()
    check_compiler()
    say = stamped_lines()
    if "--check" in flags:
        jobs = _small(overrides) if "--small" in flags else _recipes(overrides)
    else:
        jobs = sweep_jobs(with_defaults(overrides)) if "--multirun" in flags else [with_defaults(overrides)]
    plans = _checked(jobs)
    _see_writable(plans[0].config)
    report = partial(_report, masked(provenance(["xlatrain", "plan", *arguments])), "--json" in flags, say)
    if len(jobs) > 1:
        return _compare(jobs, plans, report, say)
    found = estimate_plan(plans[0], say)
    return report(jobs, [found]) if found.fits else _does_not_fit(jobs[0], found, report, say)


def _compare(jobs: list[list[str]], plans: list[Plan], report: Report, say: Say) -> int:
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
    code = report([job for job, _ in done], [found for _, found in done])
    return code if len(done) == len(jobs) else EXIT_FAILED


def estimate_plan(checked: Plan, say: Say) -> Estimate:
    """Trace both steps of a checked run in a child process, compile them, put the figures together."""
    traced = _trace(checked, say)
    train, evaluation = (_compile(step, checked, name, say) for name, step in traced.steps.items())
    return estimate(checked, train, evaluation, traced.parameters, traced.flops, traced.depthwise)


def _trace(checked: Plan, say: Say) -> TracedRun:
    from xlatrain.xla.launch import launch

    config = checked.config
    say(f"tracing {config.model.name} as one of {counted(config.cluster.replicas, 'replica')}")
    # Ops carry the names of their modules.
    return launch("xlatrain.planning.trace:trace_run", checked, environment={"XLA_HLO_DEBUG": "1"})


def _compile(step: ExportedStep, checked: Plan, name: str, say: Say) -> Step:
    return compile_step(step.hlo, step.aliases, checked.config.cluster, f"{name} step", say)


def with_defaults(overrides: Sequence[str]) -> list[str]:
    """The overrides, before them what a plan is for where they leave it open."""
    named = {o.lstrip("+~").partition("=")[0].partition("@")[0] for o in overrides}
    recipe = any(o.startswith("recipe=") and o != "recipe=none" for o in overrides)
    # A recipe says all but where its data lie, which a plan need not know.
    wanted = {k: v for k, v in VERBS["plan"].defaults.items() if k not in named and (not recipe or k == "data")}
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


def _see_writable(config: Config) -> None:
    """See that the cache and the report's folder can be written, before minutes of work. Raises ConfigError."""
    for key, folder in (("XDG_CACHE_HOME", user_cache() / "plan"), ("run.root", Path(config.run.root))):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                Fault(key, f"{folder} cannot be made: {error.strerror}", "name a folder of yours")
            ) from None


def _cluster(config: Config) -> list[Fault]:
    cluster = config.cluster
    if cluster.platform != "tpu" or cluster.chip is None or not cluster.topology:
        return [Fault("cluster", f"{cluster.name} is no TPU slice", "take one, as in cluster=tpu_v3_8")]
    if cluster.chip.name not in CHIPS:
        problem = f"{cluster.chip.name!r} is no chip that the compiler knows"
        return [Fault("cluster.chip.name", problem, f"take one of {', '.join(CHIPS)}")]
    devices = cluster.chip.devices * math.prod(cluster.topology)
    if devices != cluster.replicas:
        problem = (
            f"{counted(cluster.replicas, 'replica')} on a topology of {cluster.topology} chips, which has {devices}"
        )
        return [Fault("cluster.replicas", problem, f"take cluster.replicas={devices} or another cluster")]
    return []


def _recipes(overrides: Sequence[str]) -> list[list[str]]:
    """The jobs of --check: every recipe for a TPU, for its own cluster. A recipe leaves open where its data lie."""
    jobs = [["data=synthetic", f"recipe={recipe}", *overrides] for recipe in groups()["recipe"] if recipe != "none"]
    return [job for job in jobs if compose_config(job)[0].cluster.platform == "tpu"]


def _small(overrides: Sequence[str]) -> list[list[str]]:
    """The jobs of --check --small: a small model on two slices, in a minute."""
    small = ["model=test_efficientnet", "train.global_batch=64", "train.duration=1ep"]
    return [with_defaults([*small, f"cluster={c}", *overrides]) for c in ("tpu_v3_8", "tpu_v5e_8")]


def _does_not_fit(job: list[str], found: Estimate, report: Report, say: Say) -> int:
    """Say by how much, find what would fit, and report."""
    config = found.plan.config
    replicas, parts = config.cluster.replicas, config.gradient.accumulate
    over = max(found.train.needed, found.eval.needed) - found.capacity
    say(f"does not fit: {max(0, over):,} bytes over")
    if found.holds(found.train):
        advice = "the train step fits, the evaluation step does not: take a smaller eval.global_batch"
        return report([job], [_warned(found, advice)])

    def needed(micro_batch: int) -> int:
        images = micro_batch * parts * replicas
        smaller = dataclasses.replace(config, train=dataclasses.replace(config.train, global_batch=images))
        attempt = check_train(smaller)
        traced = _trace(attempt, say)
        # A step that fits a larger batch fits a smaller: it need not be compiled again.
        names = ["train"] + ([] if found.holds(found.eval) else ["eval"])
        steps = [_compile(traced.steps[name], attempt, name, say) for name in names]
        size = max(step.needed for step in steps)
        # The compiler keeps some memory back: its verdict counts, not the sum.
        return size if all(step.fits for step in steps) else max(size, found.capacity + 1)

    micro_batch = config.train.global_batch // (replicas * parts)
    largest = parts * largest_fitting(needed, found.capacity, micro_batch, found.train.needed, say)
    advice = f"the largest local batch that fits is {largest} ({largest * replicas:,} in all)"
    if not largest:
        advice = f"not even {counted(parts, 'image')} a replica fit{'' if parts > 1 else 's'}"
    return report([job], [_warned(found, advice)], {"largest_local_batch": largest})


def _warned(found: Estimate, text: str) -> Estimate:
    return dataclasses.replace(found, warnings=(*found.warnings, text))


def _report(
    origin: Mapping[str, Any],
    as_json: bool,
    say: Say,
    jobs: list[list[str]],
    estimates: list[Estimate],
    more: Mapping[str, Any] | None = None,
) -> int:
    """Print, and leave plan.json and report.html in a folder. origin: where the plans come from; more: further figures
    of a single plan."""
    jobs = masked(jobs)
    rows: list[dict[str, Any]] = [
        {"overrides": j, **e.as_dict(), **(more or {}), **origin} for j, e in zip(jobs, estimates, strict=True)
    ]
    if as_json:
        print(json.dumps(rows[0] if len(rows) == 1 else rows))  # noqa: T201
    elif len(estimates) == 1:
        print_estimate(estimates[0], _console())
    else:
        print_comparison(jobs, estimates, _console())
    config = estimates[0].plan.config
    name = config.run.name or free_name(config.run.root, f"plan-{config.model.name}-{config.cluster.name}")
    with claimed_folder(config.run.root, name) as folder:
        (folder / "plan.json").write_text(json.dumps(rows if len(rows) > 1 else rows[0], indent=1))
        write_page(estimates, jobs, origin, folder / "report.html")
    say(f"report: {Path(config.run.root) / name / 'report.html'}")
    return EXIT_DONE if all(e.fits for e in estimates) else EXIT_FAILED


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)
