"""The verb `tune`: a learning rate by a range test, and the largest batch that fits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from xlatrain.cli.show import sparkline
from xlatrain.cli.verbs import take_flags
from xlatrain.config.choices import CONFIG_DIR
from xlatrain.config.compose import compose_config, register_schemas
from xlatrain.console import make_console, stamped_lines
from xlatrain.drawing import picture_faults, pyplot
from xlatrain.engine.memory_probe import describe, find_fitting
from xlatrain.engine.range_test import Curve, find_curve, growing_rates
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, ConfigError, Fault
from xlatrain.files import finite
from xlatrain.planning.compile import check_compiler
from xlatrain.planning.estimate import GIB
from xlatrain.planning.plan import plan_faults, with_defaults
from xlatrain.preflight.check import check
from xlatrain.preflight.checked import CheckedRun
from xlatrain.words import counted

_COMMAND = "write xlatrain tune lr, or xlatrain tune batch"
_RATES = {"lars": (1e-4, 1e3)}  # whose trust ratios are thousandths
_LEAST_STEPS = 50
# What a range test has in place of a run's own: rates, and all that would change on the way or would not fit into it.
_PLAIN = (
    "schedule=constant", "schedule.warmup=0step", "scaling.rule=none", "scaling.lr_per_256=null",
    "scaling.base_lr=null", "scaling.base_warmup=null", "augment.sizes=[]", "finetune.head_first=null", "run.name=null",
)  # fmt: skip


def tune(arguments: Sequence[str]) -> int:
    """`xlatrain tune lr [steps=200] [from=1e-6] [to=10] [out=lr.png] [--json] [overrides]`, or `xlatrain tune batch
    [--json] [overrides]`. Returns the exit code: 1 where nothing can be suggested. Raises ConfigError."""
    kinds = {"lr": _tune_lr, "batch": _tune_batch}
    if not arguments or arguments[0] not in kinds:
        raise ConfigError(Fault("tune", " ".join(arguments[:1]) or "nothing to tune", _COMMAND))
    flags, overrides = take_flags("tune", arguments[1:])
    return kinds[arguments[0]](flags, overrides)


def _tune_lr(flags: Mapping[str, str], overrides: Sequence[str]) -> int:
    out = Path(flags.get("out", "lr.png"))
    faults = picture_faults(out)
    steps = _number(flags, "steps", 200, faults)
    if steps % 1 or not _LEAST_STEPS <= steps <= 100_000:
        faults.append(Fault("steps", f"{steps:g} steps are too few, or no number", f"take {_LEAST_STEPS} or more"))
    try:
        run = check([*overrides, *_PLAIN, f"train.duration={max(1, int(steps))}step"])
    except ConfigError as error:
        raise ConfigError(*faults, *error.faults) from None
    usual = _RATES.get(run.config.optimizer.name, (1e-6, 10.0))
    low, high = (_number(flags, name, value, faults) for name, value in zip(("from", "to"), usual, strict=True))
    if not faults and low >= high:
        faults.append(Fault("from", f"{low:g} is not less than to={high:g}", "give from=1e-6 to=10"))
    if faults:
        raise ConfigError(*faults)
    say = stamped_lines()
    for note in run.notes:
        say(note)
    curve = find_curve(run, growing_rates(low, high, int(steps)))
    config = run.config
    draw_curve(curve, f"{config.model.name}, {config.optimizer.name}, batch {config.train.global_batch:,}", out)
    if "--json" in flags:
        sys.stdout.write(json.dumps(finite({**asdict(curve), "picture": str(out)})) + "\n")
    else:
        _print_curve(curve, run, out)
    return EXIT_DONE if curve.suggested else EXIT_FAILED


def _tune_batch(flags: Mapping[str, str], overrides: Sequence[str]) -> int:
    if alien := sorted({"steps", "from", "to", "out"} & set(flags)):
        raise ConfigError(*(Fault(name, "is a flag of tune lr", "leave it out") for name in alien))
    platform = _platform(overrides)
    if platform == "gpu":
        problem = "gpu: neither its compiler nor its memory can be asked from here"
        raise ConfigError(Fault("cluster", problem, "try sizes: xlatrain train -m train.global_batch=128,256"))
    if platform == "tpu":
        return _tune_for_tpu(overrides, "--json" in flags)
    run = check([*overrides, "augment.sizes=[]"])
    found = find_fitting(run, stamped_lines())
    if "--json" in flags:
        sys.stdout.write(json.dumps(asdict(found)) + "\n")
    else:
        _print_lines(describe(found), found.largest)
    return EXIT_DONE if found.largest else EXIT_FAILED


def _platform(overrides: Sequence[str]) -> str:
    """Of the cluster that a command names, itself or by its recipe."""
    named = [o for o in overrides if o.startswith(("cluster=", "cluster.platform=", "recipe=", CONFIG_DIR))]
    register_schemas()
    try:
        return compose_config(named, fill=True)[0].cluster.platform
    except ConfigError:  # which the check of all of them says
        return "cpu"


def _tune_for_tpu(overrides: Sequence[str], as_json: bool) -> int:
    """By the TPU's compiler, as `xlatrain plan` has it."""
    from xlatrain.planning.batch import find_largest

    check_compiler()
    run = check([*with_defaults(overrides), "augment.sizes=[]"], starts=False)
    faults = plan_faults(run)
    if not faults and not run.config.cluster.chip.hbm_gib:
        faults.append(Fault("cluster.chip.hbm_gib", "is not known", "give it, as in cluster.chip.hbm_gib=16"))
    if faults:
        raise ConfigError(*faults)
    found = find_largest(run, stamped_lines())
    if as_json:
        sys.stdout.write(json.dumps(asdict(found)) + "\n")
        return EXIT_DONE if found.local else EXIT_FAILED
    cluster = run.config.cluster
    lines = [f"{run.config.model.name} on {cluster.name}, by its compiler, which needs no TPU; not run on one"]
    if found.local:
        lines.append(f"memory {found.needed / GIB:.2f} of {found.capacity / GIB:.1f} GiB of a replica")
        ended = ", all that were looked at" if found.capped else ""
        lines.append(f"largest global batch: {counted(found.batch, 'image')}, {found.local:,} a replica{ended}")
    else:
        lines.append("not even one image a replica fits")
    _print_lines(lines, found.batch)
    return EXIT_DONE if found.local else EXIT_FAILED


def _print_lines(lines: Sequence[str], batch: int | None) -> None:
    console = make_console()
    for line in lines:
        console.print(line, soft_wrap=True)
    if batch:
        console.print(f"train.global_batch={batch}", soft_wrap=True)


def _number(flags: Mapping[str, str], name: str, default: float, faults: list[Fault]) -> float:
    """A number above 0 that a flag gives, or else its default and a fault."""
    try:
        value = float(flags.get(name, default))
    except ValueError:
        value = -1.0
    if 0 < value < 1e9:
        return value
    faults.append(Fault(name, f"{flags[name]!r} is no number above 0", f"write {name}={default:g}"))
    return default


def _print_curve(curve: Curve, run: CheckedRun, out: Path) -> None:
    console = make_console()
    say: Callable[[str], None] = lambda text: console.print(text, soft_wrap=True)  # noqa: E731
    say(f"loss  {sparkline(curve.smoothed, min(72, console.width - 6))}")
    why = "the loss explodes there" if curve.exploded else "the loss does not explode"
    say(f"rates {curve.rates[0]:.3g} to {curve.rates[-1]:.3g} in {counted(len(curve.rates), 'step')}: {why}")
    if curve.suggested is None:
        say("nothing to suggest: the loss does not fall. Take from= smaller, to= larger, or more steps=")
    else:
        found = f"the loss falls fastest at {curve.fastest:.3g} and is lowest at {curve.lowest:.3g}"
        say(f"{found}; the smaller of the first and a tenth of the second,")
        say(f"for batch {run.config.train.global_batch:,}:")
        if not curve.exploded and curve.lowest >= 0.7 * curve.rates[-1]:
            say(f"warning: the loss still falls at the last rate: look further, to={10 * curve.rates[-1]:.3g}")
        say(f"optimizer.lr={curve.suggested:g}")
    say(f"drawn to {out}")


def draw_curve(curve: Curve, title: str, path: Path) -> None:
    """Loss against rate, as it was and smoothed, with what is suggested."""
    figure, axes = pyplot().subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot(curve.rates[: len(curve.losses)], curve.losses, color="tab:blue", alpha=0.3, label="loss")
    axes.plot(curve.rates[: len(curve.smoothed)], curve.smoothed, color="tab:blue", label="smoothed")
    for name, rate, color in (("falls fastest", curve.fastest, "tab:green"), ("lowest", curve.lowest, "tab:gray")):
        if rate is not None:
            axes.axvline(rate, color=color, linestyle=":", label=f"{name}, {rate:.3g}")
    if curve.suggested is not None:
        axes.axvline(curve.suggested, color="tab:red", label=f"suggested, {curve.suggested:g}")
    if curve.smoothed:
        low, high = min(curve.smoothed), max(curve.smoothed[: max(1, len(curve.smoothed) // 2)])
        axes.set_ylim(low - 0.1 * (high - low) - 0.01, high + 0.25 * (high - low) + 0.01)
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    figure.savefig(path, dpi=120)
    pyplot().close(figure)
