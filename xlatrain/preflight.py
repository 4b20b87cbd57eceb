"""Every check that needs no device: all faults of a configuration at once, before anything is spawned."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xlatrain.config import Config
from xlatrain.data.dataset import Dataset, open_dataset
from xlatrain.duration import parse_duration
from xlatrain.errors import ConfigError, Fault
from xlatrain.optim.schedule import ScheduleSpec


@dataclass(frozen=True)
class Lengths:
    """The run in steps. steps_per_epoch counts whole global batches."""

    steps_per_epoch: int
    total_steps: int
    log_every: int
    eval_every: int

    def epoch(self, steps: int) -> float:
        """Epochs done after a number of steps."""
        return steps / self.steps_per_epoch


@dataclass(frozen=True)
class Plan:
    """A checked run: what the configuration means once the data set is known."""

    config: Config
    dataset: Dataset
    lengths: Lengths
    schedule: ScheduleSpec
    bn_group: int
    eval_batch: int  # images per evaluation step over all replicas


def check_train(config: Config) -> Plan:
    """Check a training run. Raises ConfigError with every fault found."""
    return _check(config, training=True)


def check_eval(config: Config) -> Plan:
    """Check an evaluation run. Raises ConfigError with every fault found."""
    return _check(config, training=False)


def _check(config: Config, training: bool) -> Plan:
    faults = _values(config) + _environment()
    faults += _batches(config) if training else []
    faults += _weights(config, training)
    replicas = config.cluster.replicas
    group, group_faults = _bn_group(config.model.sync_bn_group, max(replicas, 1))
    faults += group_faults
    lengths, schedule, dataset = None, None, None
    try:
        dataset = open_dataset(config.data, config.augment)
        faults += _model(config, dataset.num_classes)
        if dataset.val.samples == 0:
            raise ConfigError(Fault("data.val_examples", "0 leaves the validation set empty", "take 1 or more"))
    except ConfigError as error:
        faults += [*error.faults, *_model(config, config.data.num_classes or 10)]
    if training:
        duration_faults = _durations(config)
        faults += duration_faults
        if dataset and not duration_faults and config.train.global_batch > 0:
            lengths, length_faults = _lengths(config, dataset)
            faults += length_faults
            schedule = _schedule(config, lengths)
    if faults:
        raise ConfigError(*faults)
    return Plan(
        config,
        dataset,
        lengths or Lengths(1, 0, 1, 1),
        schedule or ScheduleSpec("constant", 0.0, 0),
        group,
        eval_batch_for(config.eval.global_batch or config.train.global_batch, replicas),
    )


def eval_batch_for(wanted: int, replicas: int) -> int:
    """The evaluation batch, rounded up to a multiple of the replicas: padding costs nothing but time."""
    return -(-wanted // replicas) * replicas


def _values(config: Config) -> list[Fault]:
    """Values outside what the schema allows."""
    faults = []
    for key, field, value in _flat(config):
        allowed, low, high = (field.metadata[k] for k in ("choices", "low", "high"))
        if value is None:
            continue
        if allowed and value not in allowed:
            faults.append(Fault(key, f"{value!r} is not one of {', '.join(allowed)}", f"take {key}={allowed[0]}"))
        elif low is not None and not low <= value <= (high if high is not None else value):  # also catches nan
            bounds = f"{low} to {high}" if high is not None else f"{low} or more"
            faults.append(Fault(key, f"{value} is out of range", f"take {bounds}"))
    for key in ("mean", "std"):
        if len(getattr(config.data, key)) != 3:
            faults.append(Fault(f"data.{key}", f"{getattr(config.data, key)}", "give three numbers, one per channel"))
    return faults


def _flat(node: object, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, object]]:
    """Every option of a configuration with its key, field and value."""
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value, f"{prefix}{field.name}.")
        elif field.metadata:
            yield prefix + field.name, field, value


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


def _batches(config: Config) -> list[Fault]:
    batch, replicas = config.train.global_batch, config.cluster.replicas
    if replicas < 1 or batch < 1 or batch % replicas == 0:
        return []
    near = sorted({max(1, batch // replicas) * replicas, -(-batch // replicas) * replicas})
    return [
        Fault(
            "train.global_batch",
            f"{batch} does not divide among {replicas} replicas",
            f"take {' or '.join(f'train.global_batch={n}' for n in near)}",
        )
    ]


def _bn_group(text: str, replicas: int) -> tuple[int, list[Fault]]:
    """The replicas per batch norm group: "world", "local" or a number."""
    text = str(text)
    if text in ("world", "local"):
        return (replicas if text == "world" else 1), []
    divisors = [d for d in range(1, replicas + 1) if replicas % d == 0]
    cure = f"take world, local or one of {', '.join(map(str, divisors))}"
    if not text.isdigit() or int(text) < 1:
        return 1, [Fault("model.sync_bn_group", f"{text!r} is neither world, local nor a number of replicas", cure)]
    if replicas % int(text):
        return 1, [Fault("model.sync_bn_group", f"groups of {text} do not divide {replicas} replicas", cure)]
    return int(text), []


def _model(config: Config, num_classes: int) -> list[Fault]:
    if config.data.image_size < 1:
        return []
    import timm

    from xlatrain.models.build import check_model, nearest_names

    if config.model.name.partition(".")[0] not in timm.list_models():
        near = nearest_names(config.model.name)
        cure = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        return [Fault("model.name", f"timm has no model {config.model.name!r}", cure)]
    try:
        check_model(config.model, num_classes, config.data.image_size)
    except ValueError as error:
        return [Fault("model", f"timm cannot build {config.model.name}: {error}", "correct model.kwargs or the option")]
    return []


def _durations(config: Config) -> list[Fault]:
    faults = []
    texts = {
        "train.duration": config.train.duration,
        "train.log_every": config.train.log_every,
        "train.eval_every": config.train.eval_every,
        "schedule.warmup": config.schedule.warmup,
        "schedule.decay_every": config.schedule.decay_every,
    }
    for key, text in texts.items():
        try:
            if parse_duration(text).unit == "%" and key == "train.duration":
                raise ValueError("a run cannot be a percentage of itself: write 20ep, 300step or 1.28Mexample")
        except ValueError as error:
            faults.append(Fault(key, f"{text!r} is not a duration", str(error)))
    return faults


def _lengths(config: Config, dataset: Dataset) -> tuple[Lengths, list[Fault]]:
    batch, samples = config.train.global_batch, dataset.train.samples
    steps_per_epoch = samples // batch
    if steps_per_epoch == 0:
        return Lengths(1, 1, 1, 1), [
            Fault(
                "train.global_batch",
                f"{batch} is more than the {samples} training images",
                f"take {samples // config.cluster.replicas * config.cluster.replicas} or less",
            )
        ]
    total = parse_duration(config.train.duration).steps(steps_per_epoch, batch)
    lengths = Lengths(
        steps_per_epoch,
        total,
        max(1, parse_duration(config.train.log_every).steps(steps_per_epoch, batch, total)),
        max(1, parse_duration(config.train.eval_every).steps(steps_per_epoch, batch, total)),
    )
    if total < 1:
        return lengths, [
            Fault(
                "train.duration",
                f"{config.train.duration} is less than one step",
                "lengthen it, for instance train.duration=1ep",
            )
        ]
    return lengths, []


def _schedule(config: Config, lengths: Lengths) -> ScheduleSpec:
    s, batch = config.schedule, config.train.global_batch

    def steps(text: str) -> int:
        return parse_duration(text).steps(lengths.steps_per_epoch, batch, lengths.total_steps)

    return ScheduleSpec(
        s.name,
        config.optimizer.lr,
        lengths.total_steps,
        steps(s.warmup),
        s.warmup_lr,
        s.end_lr,
        s.power,
        s.decay,
        max(1, steps(s.decay_every)),
    )


def _weights(config: Config, training: bool) -> list[Fault]:
    if training:
        return (
            []
            if config.weights is None
            else [Fault("weights", "is what `xlatrain eval` evaluates; training starts from a seed", "leave it out")]
        )
    if config.weights is None:
        return [Fault("weights", "nothing to evaluate", "give weights=runs/NAME/weights.safetensors")]
    if not Path(config.weights).is_file():
        return [Fault("weights", f"there is no file {config.weights}", "give weights=runs/NAME/weights.safetensors")]
    return []


def check_weights(plan: Plan) -> None:
    """See that the weights file fits the model of a checked evaluation. Raises ConfigError."""
    from xlatrain.checkpoint import load_weights
    from xlatrain.models.build import build_model
    from xlatrain.state import model_layout

    config = plan.config
    module = build_model(config.model, plan.dataset.num_classes, config.data.image_size, config.train.seed)
    load_weights(Path(config.weights), model_layout(module), config.weights_kind)
