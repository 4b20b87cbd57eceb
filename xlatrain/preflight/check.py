"""Every check that needs no device: all faults of a configuration at once, before anything is spawned."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from xlatrain.config.schema import Config, ShardsConfig
from xlatrain.data.dataset import Dataset, open_dataset
from xlatrain.data.mixing import advise
from xlatrain.data.pipeline import ShardedSplit
from xlatrain.errors import ConfigError, Fault
from xlatrain.models.bn_groups import group_size, replica_groups
from xlatrain.models.tiles import Grid
from xlatrain.optim.schedule import ScheduleSpec
from xlatrain.preflight.contradictions import find_contradictions
from xlatrain.preflight.lengths import Lengths
from xlatrain.preflight.model import find_model_faults
from xlatrain.preflight.resolve import (
    check_durations,
    resolve_lengths,
    resolve_scaling,
    resolve_schedule,
    too_few_images,
)
from xlatrain.words import counted


@dataclass(frozen=True)
class Plan:
    """A checked run: what the configuration means once the data set is known."""

    config: Config
    dataset: Dataset
    lengths: Lengths | None  # of training
    schedule: ScheduleSpec
    bn_group: int
    eval_batch: int  # images per evaluation step over all replicas
    tiles: Grid  # of the stem and the first stage
    phases: tuple[Plan, ...] = ()  # a plan for each of augment.sizes: its image size, batch, groups and tiles
    notes: tuple[str, ...] = ()  # what the run should say first: what it took from elsewhere than the command

    @property
    def parts(self) -> tuple[Plan, ...]:
        """A plan for each phase of training."""
        return self.phases or (self,)

    @property
    def warnings(self) -> list[str]:
        """What is no fault, but does not train well."""
        split, cluster = self.dataset.train, self.config.cluster
        if self.lengths is None or not isinstance(split, ShardedSplit):
            return []
        batch, per_host = max(p.global_batch for p in self.lengths.phases), cluster.processes_per_host or 1
        text = advise(split.index.clustering, split.reading(batch, cluster.hosts or 1, per_host))
        return [text] if text else []


def check_train(config: Config) -> Plan:
    """Check a training run. Raises ConfigError with every fault found."""
    return check_run(config, training=True)


def check_run(config: Config, training: bool) -> Plan:
    """Check all but the weights of an evaluation. Raises ConfigError with every fault found."""
    faults = _values(config)
    sound = not faults
    faults += _environment() + _run_folder(config) + find_contradictions(config)
    if training and config.weights is not None:
        faults.append(
            Fault("weights", "is what `xlatrain eval` evaluates; training starts from a seed", "leave it out")
        )
    replicas = config.cluster.replicas
    group, group_faults = _bn_group(config)
    faults += group_faults
    lengths, schedule, dataset = None, None, None
    tiles = Grid(1, 1)
    config = _with_workers(config)
    try:
        dataset = open_dataset(config.data, config.augment)
        tiles, model_faults = find_model_faults(config, dataset.num_classes)
        faults += model_faults
        if dataset.val.samples == 0:
            faults.append(Fault("data.val_examples", "0 leaves the validation set empty", "take 1 or more"))
    except ConfigError as error:
        faults += [*error.faults, *find_model_faults(config, config.data.num_classes or 10)[1]]
    faults += _batches(config, dataset.train.samples if dataset else None) if training else []
    if training and (duration_faults := check_durations(config)):
        faults += duration_faults
    elif training and sound:
        try:
            config = resolve_scaling(config)
            lengths = resolve_lengths(config, dataset.train.samples) if dataset else None
            schedule = resolve_schedule(config, lengths) if lengths else None
        except ConfigError as error:
            known = {fault.key for fault in faults}
            faults += [fault for fault in error.faults if fault.key not in known]
    if faults:
        raise ConfigError(*faults)
    plan = Plan(
        config,
        dataset,
        lengths,
        schedule or ScheduleSpec("constant", 0.0, 0),
        group,
        eval_batch_for(config.eval.global_batch or config.train.global_batch, replicas),
        tiles,
    )
    return replace(plan, phases=_phase_plans(plan)) if lengths and config.augment.sizes else plan


def _phase_plans(plan: Plan) -> tuple[Plan, ...]:
    """The plan of each phase of progressive resizing. Raises ConfigError."""
    plans, faults = [], []
    for phase in plan.lengths.phases:
        data = replace(plan.config.data, image_size=phase.image_size)
        config = replace(plan.config, data=data, train=replace(plan.config.train, global_batch=phase.global_batch))
        group, group_faults = _bn_group(config)
        tiles, model_faults = find_model_faults(config, plan.dataset.num_classes)
        faults += group_faults + model_faults
        plans.append(replace(plan, config=config, bn_group=group, tiles=tiles))
    if faults:
        raise ConfigError(*faults)
    return tuple(plans)


def _with_workers(config: Config) -> Config:
    """data.workers, where it is left open: a thread on CPU, whose cores the replicas need; all cores on TPU."""
    if not isinstance(config.data, ShardsConfig) or config.data.workers is not None:
        return config
    processes = config.cluster.processes_per_host or 1
    workers = 0 if config.cluster.platform == "cpu" else max(1, (os.cpu_count() or 1) // processes - 1)
    return replace(config, data=replace(config.data, workers=workers))


def eval_batch_for(wanted: int, replicas: int) -> int:
    """The evaluation batch, rounded up to a multiple of the replicas: padding costs nothing but time."""
    return -(-wanted // replicas) * replicas


def _values(config: Config) -> list[Fault]:
    """Values outside what the schema allows."""
    faults = []
    for key, field, value in _flat(config):
        allowed, low, high, below = (field.metadata[k] for k in ("choices", "low", "high", "below"))
        if value is None:
            continue
        null = ", or null" if field.default is None else ""
        if allowed and value not in allowed:
            near = difflib.get_close_matches(str(value), allowed, n=1)
            cure = f"did you mean {key}={near[0]}?" if near else f"take one of these{null}"
            faults.append(Fault(key, f"{value!r} is not one of {', '.join(allowed)}", cure))
        elif isinstance(value, float) and not math.isfinite(value):
            faults.append(Fault(key, f"{value} is no finite number", f"give a finite one{null}"))
        elif low is not None and not (low <= value <= _or_inf(high) and value < _or_inf(below)):
            upper = (
                f" to {high}" if high is not None else f" up to but not {below}" if below is not None else " or more"
            )
            allowed = "more than 0" if 0 < low < 1e-6 else f"{low}{upper}"
            faults.append(Fault(key, f"{value} is out of range", f"take {allowed}{null}"))
    for key, low in (("mean", float("-inf")), ("std", 0.0)):
        values = getattr(config.data, key)
        if len(values) != 3 or not all(low < v < math.inf for v in values):
            what = "three numbers" if key == "mean" else "three numbers above 0"
            faults.append(Fault(f"data.{key}", f"{values} are not {what}, one per channel", "see conf/data"))
    return faults


def _or_inf(limit: float | None) -> float:
    return math.inf if limit is None else limit


def _flat(node: object, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, object]]:
    """Every option of a configuration with its key, field and value."""
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value, f"{prefix}{field.name}.")
        elif field.metadata:
            yield prefix + field.name, field, value


def _run_folder(config: Config) -> list[Fault]:
    """Whether the run's folder can be made, without making it."""
    faults = []
    name = config.run.name
    if name is not None and (not name or Path(name).is_absolute() or {".", ".."} & set(name.split("/"))):
        faults.append(
            Fault("run.name", f"{name!r} is no name of a folder under run.root", "take letters, digits, - and _")
        )
    root = Path(config.run.root).absolute()
    nearest = next(p for p in (root, *root.parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        faults.append(Fault("run.root", f"{config.run.root} cannot be written", "name a folder of yours"))
    return faults


def _environment() -> list[Fault]:
    return [
        Fault(
            f"environment variable {name}",
            "is set; it would silently turn float32 state into bf16",
            f"unset {name}; use precision=bf16",
        )
        for name in ("XLA_USE_BF16", "XLA_DOWNCAST_BF16")
        if os.environ.get(name, "0") != "0"
    ]


def _batches(config: Config, samples: int | None) -> list[Fault]:
    """Whether a batch divides among replicas and micro-batches. samples: training images, if they are known."""
    batch, replicas, parts = config.train.global_batch, config.cluster.replicas, config.gradient.accumulate
    share = replicas * parts
    if share < 1 or batch < 1 or batch % share == 0:
        return []
    if samples is not None and (fault := too_few_images(config, samples)):
        return [fault]
    most = math.inf if samples is None else samples // share * share
    near = sorted({min(most, max(1, batch // share) * share), min(most, -(-batch // share) * share)})
    return [
        Fault(
            "train.global_batch",
            f"{batch} does not divide among {counted(replicas, 'replica')}"
            + (f" of {parts} micro-batches" if parts > 1 else ""),
            f"take {' or '.join(f'train.global_batch={n}' for n in near)}",
        )
    ]


def _bn_group(config: Config) -> tuple[int, list[Fault]]:
    """The replicas per batch norm group."""
    replicas = max(config.cluster.replicas, 1)
    try:
        images = config.train.global_batch // (replicas * max(config.gradient.accumulate, 1))
        size = group_size(config.model.sync_bn_group, replicas, images)
        replica_groups(replicas, size, config.cluster.torus_width)
    except ValueError as error:
        problem, _, cure = str(error).partition("; ")
        return 1, [Fault("model.sync_bn_group", problem, cure or "take another size, or no cluster.torus_width")]
    return size, []
