"""A plan, from overrides to figures: what it is for, checked, traced, compiled, put together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from xlatrain.config.cluster import ClusterConfig
from xlatrain.errors import ConfigError, Fault
from xlatrain.planning.compile import CHIPS, check_compiler, compile_step
from xlatrain.planning.defaults import DEFAULTS
from xlatrain.planning.estimate import Estimate, Step, estimate
from xlatrain.preflight.check import check
from xlatrain.preflight.checked import CheckedRun
from xlatrain.words import counted

if TYPE_CHECKING:
    from xlatrain.planning.trace_run import TracedRun

Say = Callable[[str], None]


def with_defaults(overrides: Sequence[str]) -> list[str]:
    """The overrides, before them what a plan is for where they leave it open."""
    named = {o.lstrip("+~").partition("=")[0].partition("@")[0] for o in overrides}
    recipe = any(o.startswith("recipe=") and o != "recipe=none" for o in overrides)
    # A recipe says all but where its data lie, which a plan need not know.
    wanted = {k: v for k, v in DEFAULTS.items() if k not in named and (not recipe or k == "data")}
    return [f"{k}={v}" for k, v in wanted.items()] + list(overrides)


def check_plan(overrides: Sequence[str]) -> CheckedRun:
    """Compose and check a run that can be planned. Raises ConfigError with every fault found."""
    run = check(overrides, starts=False)
    if faults := plan_faults(run):
        raise ConfigError(*faults)
    return run


def plan_faults(run: CheckedRun) -> list[Fault]:
    """Why a run cannot be planned."""
    faults = _cluster(run.config.cluster)
    if run.config.augment.sizes:
        cure = "plan each: data.image_size=128 train.global_batch=8192 augment.sizes=[]"
        faults.append(Fault("augment.sizes", "a plan is for images of one size", cure))
    return faults


def _cluster(cluster: ClusterConfig) -> list[Fault]:
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


def plan(run: CheckedRun | Sequence[str], say: Say = lambda text: None) -> Estimate:
    """What a checked run, or one of these overrides, needs, takes and costs on its cluster. say: told what happens.
    Raises ConfigError, with the command that installs the TPU's compiler where it is missing, and ReplicaError."""
    check_compiler()
    return make_plan(run if isinstance(run, CheckedRun) else check_plan(with_defaults(run)), say)


def make_plan(run: CheckedRun, say: Say) -> Estimate:
    """Trace both steps of a checked run in a child process, compile them, put the figures together."""
    traced = trace(run, say)
    train, evaluation = (compile_traced(traced, name, run, say) for name in ("train", "eval"))
    return estimate(run, train, evaluation, traced.parameters, traced.flops, traced.depthwise)


def trace(run: CheckedRun, say: Say) -> TracedRun:
    """The programs of a run."""
    from xlatrain.xla.launch import launch

    config = run.config
    say(f"tracing {config.model.name} as one of {counted(config.cluster.replicas, 'replica')}")
    # Ops carry the names of their modules.
    return launch("xlatrain.planning.trace_run:trace_run", run, environment={"XLA_HLO_DEBUG": "1"})


def compile_traced(traced: TracedRun, name: str, run: CheckedRun, say: Say) -> Step:
    """A step of a run, "train" or "eval", compiled for its cluster."""
    step = traced.steps[name]
    return compile_step(step.hlo, step.aliases, run.config.cluster, f"{name} step", say)
