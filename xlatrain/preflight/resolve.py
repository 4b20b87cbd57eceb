"""What the options of a run come to: durations in steps, the schedule, the learning rate for the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from xlatrain.config.schema import Config
from xlatrain.data.phase import Phase
from xlatrain.errors import ConfigError, Fault
from xlatrain.optim.scaling import scale
from xlatrain.optim.schedule import ScheduleSpec
from xlatrain.preflight.lengths import Lengths, exact_steps, parse_duration, whole_steps
from xlatrain.words import counted

_PHASE_KEYS = ("until", "size", "batch", "lr", "min_area")


def resolve_lengths(config: Config, samples: int) -> Lengths:
    """The run's phases and durations, for `samples` training images. Raises ConfigError."""
    phases = resolve_phases(config, samples)
    total = whole_steps(samples, phases, parse_duration(config.train.duration))
    if total < 1:
        raise ConfigError(
            Fault(
                "train.duration",
                f"{config.train.duration} is less than one step",
                "lengthen it, for instance train.duration=1ep",
            )
        )
    phases = tuple(p for p in phases if p.first_step < total)
    log_every, eval_every = parse_duration(config.train.log_every), parse_duration(config.train.eval_every)
    return Lengths(samples, phases, total, log_every, eval_every)


def resolve_phases(config: Config, samples: int) -> tuple[Phase, ...]:
    """The sizes that training goes through: one, or those of augment.sizes. Raises ConfigError."""
    entries = config.augment.sizes or [{}]
    if faults := _phase_faults(config, entries):
        raise ConfigError(*faults)
    phases: list[Phase] = []
    for i, entry in enumerate(entries):
        batch = entry.get("batch", config.train.global_batch)
        if batch > samples:
            if fault := too_few_images(config, samples):
                raise ConfigError(fault)
            share = config.cluster.replicas * config.gradient.accumulate
            key, cure = f"augment.sizes[{i}].batch", f"take {samples // share * share} or less"
            if "batch" not in entry:
                key, cure = "train.global_batch", cure.replace("take ", "take train.global_batch=")
            raise ConfigError(Fault(key, f"{batch} is more than the {samples} training images", cure))
        first = whole_steps(samples, tuple(phases), parse_duration(entries[i - 1]["until"])) if phases else 0
        size, area = entry.get("size", config.data.image_size), entry.get("min_area", config.augment.min_area)
        phases.append(Phase(first, batch, size, float(area), float(entry.get("lr", 1))))
    return tuple(phases)


def too_few_images(config: Config, samples: int) -> Fault | None:
    """A data set that has not one image for each replica and micro-batch: no batch is small enough."""
    replicas, parts = config.cluster.replicas, config.gradient.accumulate
    if samples >= replicas * parts:
        return None
    each = f"{replicas} replicas" + (f" of {parts} micro-batches" if parts > 1 else "")
    problem = f"a step of {each} takes at least {replicas * parts} images, and there are {samples} to train on"
    cure = f"take cluster.replicas={max(1, samples // parts)} or fewer"
    if samples < parts:
        cure = f"take gradient.accumulate={samples} or less, and cluster.replicas=1"
    return Fault("cluster.replicas", problem, f"{cure}, and a train.global_batch of at most {samples}")


def _phase_faults(config: Config, entries: list[Any]) -> list[Fault]:
    """What is wrong with augment.sizes."""
    faults, last = [], 0
    share = config.cluster.replicas * config.gradient.accumulate
    cure = "write them as in augment.sizes=[{until: 18ep, size: 128}, {size: 224}]"
    if config.schedule.name == "exponential" and any("batch" in e for e in entries if isinstance(e, dict)):
        faults.append(Fault("augment.sizes", "schedule=exponential counts steps of one batch", "take another schedule"))
    for i, entry in enumerate(entries):
        key = f"augment.sizes[{i}]"
        if not isinstance(entry, dict) or set(entry) - set(_PHASE_KEYS):
            faults.append(Fault(key, f"{entry!r} is no size; the keys are {', '.join(_PHASE_KEYS)}", cure))
            continue
        ends = i == len(entries) - 1
        try:
            until = None if ends and "until" not in entry else parse_duration(entry.get("until", ""))
            if until and (until.unit != "ep" or until.amount % 1 or until.amount <= last):
                raise ValueError(f"take whole epochs, more than the {last} before")
            last = round(until.amount) if until else last
        except ValueError as error:
            faults.append(Fault(f"{key}.until", f"{entry.get('until')!r} is no end of a size", str(error)))
        for name, low, high in (("size", 1, 10_000), ("batch", 1, 1 << 24), ("lr", 0, 1e6), ("min_area", 0.001, 1)):
            value = entry.get(name, low)
            kind = int if name in ("size", "batch") else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                faults.append(Fault(f"{key}.{name}", f"{value!r} is out of range", f"take {low} to {high:,.0f}"))
            elif name == "batch" and "batch" in entry and value % share:
                cure = f"take a multiple of {share}, as {-(-value // share) * share}"
                faults.append(Fault(f"{key}.batch", f"{value} does not divide into {share} parts", cure))
        if ends and "until" in entry:
            run = parse_duration(config.train.duration)
            if run.unit == "ep" and run.amount > last:
                problem = f"the run lasts {config.train.duration}"
                faults.append(Fault(f"{key}.until", problem, "leave the last one open"))
    return faults


_SHARE_OF_RUN = 4  # a default warm-up takes a quarter of a short run: 5 of 20 epochs, the defaults
_NOT_ZERO = (
    "train.duration",
    "train.log_every",
    "train.eval_every",
    "schedule.decay_every",
    "schedule.length",
    "checkpoint.every",
    "checkpoint.keep_every",
)
AT_EVALUATIONS = "eval"  # of checkpoint.every


def check_durations(config: Config) -> list[Fault]:
    """Every text that should be a duration and is not."""
    s, t, c = config.schedule, config.train, config.checkpoint
    texts = {
        "train.duration": t.duration,
        "train.log_every": t.log_every,
        "train.eval_every": t.eval_every,
        "schedule.warmup": s.warmup or "0step",
        "schedule.default_warmup": s.default_warmup,
        "schedule.decay_every": s.decay_every,
        "schedule.length": s.length or "100%",
        "scaling.base_warmup": config.scaling.base_warmup or "0step",
    }
    texts |= {"checkpoint.every": c.every} if c.every not in (None, AT_EVALUATIONS) else {}
    texts |= {"checkpoint.keep_every": c.keep_every} if c.keep_every is not None else {}
    texts |= {"finetune.head_first": first} if (first := config.finetune.head_first) is not None else {}
    texts |= {f"schedule.milestones[{i}]": text for i, text in enumerate(s.milestones)}
    faults = []
    for i, point in enumerate(s.points):
        if isinstance(point, list) and len(point) == 2 and _is_rate(point[1]):
            texts[f"schedule.points[{i}]"] = str(point[0])
        else:
            faults.append(
                Fault(f"schedule.points[{i}]", f"{point!r}", "give [duration, learning rate], as in [5ep,0.4]")
            )
    for key, text in texts.items():
        try:
            duration = parse_duration(text)
            if duration.unit == "%" and key == "train.duration":
                raise ValueError("a run cannot be a percentage of itself: write 20ep, 300step or 1.28Mexample")
            if duration.amount == 0 and key in _NOT_ZERO:
                raise ValueError("take at least 1step; what is longer than the run happens once, at its end")
        except ValueError as error:
            faults.append(Fault(key, f"{text!r} is not a duration", str(error)))
    return faults


def _is_rate(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def resolve_warmup(config: Config, lengths: Lengths) -> int:
    """Steps of warm-up. What was asked for, by an option or a recipe, has to fit into the run: the peak would never be
    reached; the schedule's default gives way. Raises ConfigError."""
    s, total = config.schedule, lengths.total_steps
    if s.warmup is None:
        return min(lengths.steps(parse_duration(s.default_warmup)), total // _SHARE_OF_RUN)
    steps = lengths.steps(parse_duration(s.warmup))
    if steps <= total:
        return steps
    problem = f"{s.warmup} are {steps:,} steps and the run has {total:,}: it would never reach its learning rate"
    if not _scales_warmup(config):
        raise ConfigError(Fault("schedule.warmup", problem, "take schedule.warmup=25% or a longer train.duration"))
    by = f"{config.scaling.rule} from batch {config.scaling.base_batch:,} to {config.train.global_batch:,}"
    cure = "give a shorter scaling.base_warmup or a longer train.duration"
    raise ConfigError(Fault("scaling.base_warmup", f"by {by}, {problem}", cure))


def resolve_schedule(config: Config, lengths: Lengths) -> ScheduleSpec:
    """The schedule with its lengths in steps. Raises ConfigError."""
    s = config.schedule

    def steps(text: str) -> int:
        return lengths.steps(parse_duration(text))

    decay_every = parse_duration(s.decay_every)
    points = tuple((steps(str(at)), float(lr)) for at, lr in s.points)
    if s.name == "piecewise" and (not points or list(points) != sorted(points, key=lambda p: p[0])):
        raise ConfigError(
            Fault("schedule.points", f"{s.points}", "give points in order, as in schedule.points=[[0ep,0],[5ep,0.4]]")
        )
    return ScheduleSpec(
        name=s.name,
        peak_lr=config.optimizer.lr,
        total_steps=lengths.total_steps,
        warmup_steps=resolve_warmup(config, lengths),
        warmup_lr=s.warmup_lr,
        warmup_shape=s.warmup_shape,
        end_lr=s.end_lr,
        power=s.power,
        decay=s.decay,
        decay_steps=max(1.0, exact_steps(lengths.samples, lengths.phases, decay_every, lengths.total_steps)),
        from_start=s.from_start,
        length=None if s.length is None else steps(s.length),
        milestones=tuple(steps(text) for text in s.milestones),
        points=points,
        div=s.div,
        tail=s.tail,
        momentum=config.optimizer.momentum,
        low_momentum=s.low_momentum if config.optimizer.cycles_momentum else None,
        factors=tuple((p.first_step, p.lr) for p in lengths.phases if config.augment.sizes),
    )


def resolve_scaling(config: Config) -> Config:
    """The configuration with optimizer.lr and schedule.warmup for its batch, if a base is given. Raises ConfigError."""
    s = config.scaling
    if s.lr_per_256 is None and s.base_lr is None:
        if s.rule != "none" or s.base_warmup is not None:
            raise ConfigError(
                Fault(
                    "scaling",
                    f"{s.rule} has nothing to scale",
                    "give scaling.lr_per_256, or scaling.base_lr and base_batch",
                )
            )
        return config
    if s.lr_per_256 is not None and s.base_lr is not None:
        raise ConfigError(Fault("scaling", "both lr_per_256 and base_lr are given", "give one of them"))
    base_batch, base_lr = (256, s.lr_per_256) if s.lr_per_256 is not None else (s.base_batch, s.base_lr)
    warmup = parse_duration(s.base_warmup or config.schedule.warmup or config.schedule.default_warmup)
    if s.rule == "legw" and warmup.unit != "ep":
        raise ConfigError(
            Fault("scaling.base_warmup", f"LEGW scales epochs, not {warmup.unit}", "write it in epochs, as in 0.3125ep")
        )
    lr, amount = scale(s.rule, config.train.global_batch, base_batch, base_lr, warmup.amount)
    scaled = replace(config, optimizer=replace(config.optimizer, lr=lr))
    if not _scales_warmup(config):
        return scaled
    return replace(scaled, schedule=replace(config.schedule, warmup=f"{amount:.10g}{warmup.unit}"))


def _scales_warmup(config: Config) -> bool:
    """Whether the warm-up is asked for by way of scaling: as that of a base, or by LEGW, which is a rule of it."""
    s = config.scaling
    return (s.lr_per_256 is not None or s.base_lr is not None) and (s.base_warmup is not None or s.rule == "legw")


def describe_short_warmup(config: Config, lengths: Lengths, schedule: ScheduleSpec) -> str | None:
    """That the default warm-up gave way to a short run; None if it did not."""
    s = config.schedule
    if s.warmup is not None or (usual := lengths.steps(parse_duration(s.default_warmup))) <= schedule.warmup_steps:
        return None
    return (
        f"warm-up: the default of {s.default_warmup}, {usual:,} steps, gives way to a quarter of this run, "
        f"{schedule.warmup_steps:,} of {schedule.total_steps:,}; schedule.warmup=… asks for another"
    )


def describe_learning_rate(config: Config, schedule: ScheduleSpec) -> str:
    """The resolved peak and warm-up in words, and where they come from."""
    s, batch = config.scaling, config.train.global_batch
    if schedule.name == "piecewise":
        highest = max(rate for _, rate in schedule.points)
        return f"learning rate by points, at most {highest:.6g}, {counted(schedule.total_steps, 'step')} in all"
    base = None
    if s.lr_per_256 is not None:
        base = f"{s.lr_per_256:g} at 256"
    elif s.base_lr is not None:
        base = f"{s.base_lr:g} at {s.base_batch:,}"
    origin = f" ({s.rule} from {base})" if base else ""
    warmup = f"{counted(schedule.warmup_steps, 'step')} of warm-up" if schedule.warmup_steps else "no warm-up"
    asked = config.schedule.warmup or "default"
    return (
        f"learning rate {schedule.peak_lr:.6g} for batch {batch:,}{origin}, {warmup} ({asked}), "
        f"then {schedule.name}, {counted(schedule.total_steps, 'step')} in all"
    )
