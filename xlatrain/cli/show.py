"""`xlatrain show schedule`: the learning rate and momentum of a run, drawn before it is started; and what else there is
to show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xlatrain.cli.show_recipes import show_recipes
from xlatrain.cli.verbs import take_flags
from xlatrain.console import make_console
from xlatrain.drawing import picture_faults, pyplot
from xlatrain.errors import EXIT_DONE, ConfigError, Fault
from xlatrain.optim.schedule import learning_rate_table, momentum_table
from xlatrain.preflight.check import check
from xlatrain.preflight.checked import CheckedRun
from xlatrain.preflight.resolve import describe_short_warmup
from xlatrain.words import counted

_BLOCKS = "▁▂▃▄▅▆▇█"


def show(arguments: Sequence[str]) -> int:
    """`xlatrain show schedule [out=FILE] [overrides]`, `xlatrain show recipes [out=FILE] [words]`. Raises
    ConfigError."""
    if not arguments or arguments[0] not in ("schedule", "recipes"):
        cure = "write xlatrain show schedule, or xlatrain show recipes"
        raise ConfigError(Fault("show", " ".join(arguments[:1]) or "nothing to show", cure))
    flags, overrides = take_flags("show", arguments[1:])
    if arguments[0] == "recipes":
        show_recipes(overrides, Path(flags["out"]) if "out" in flags else None)
        return EXIT_DONE
    out = Path(flags.get("out", "schedule.png"))
    faults = picture_faults(out)
    try:
        run = check(overrides, starts=False)
    except ConfigError as error:
        faults += error.faults
    if faults:
        raise ConfigError(*faults)
    show_schedule(run, out)
    return EXIT_DONE


def show_schedule(run: CheckedRun, path: Path) -> None:
    """Print a sparkline of the schedule and what it comes to; draw it as the name of the file says."""
    rates, momenta = learning_rate_table(run.schedule), momentum_table(run.schedule)
    spec, lengths, console = run.schedule, run.lengths, make_console()
    per_epoch = " then ".join(f"{lengths.steps_per_epoch(p):.1f}" for p in lengths.phases)
    console.print(f"{spec.name}, {counted(spec.total_steps, 'step')}, {per_epoch} an epoch")
    curves = [("learning rate", rates, f"peak {max(rates):.6g} at step {rates.index(max(rates)):,}")]
    if len(set(momenta)) > 1:
        curves.append(("momentum", momenta, f"{min(momenta):g} to {max(momenta):g}"))
    aside = max(len(words) for *_, words in curves) + 2
    room = console.width - 15 - aside  # beside the words, or where that is too little, above them
    for name, values, words in curves:
        curve = sparkline(values, min(72, room if room >= 16 else console.width - 15))
        console.print(f"{name:13}  {curve}" + (f"  {words}" if room >= 16 else f"\n{'':15}{words}"))
    warmup = f"warm-up {counted(spec.warmup_steps, 'step')} from {spec.warmup_lr:g}"
    console.print(f"{warmup}; first {rates[0]:.6g}, last {rates[-1]:.6g}")
    if text := describe_short_warmup(run.config, lengths, spec):
        console.print(text, soft_wrap=True)
    draw_schedule([lengths.epoch(step) for step in range(spec.total_steps)], rates, momenta, spec.name, path)
    console.print(f"drawn to {path}")


def sparkline(values: Sequence[float], width: int = 72) -> str:
    """A curve in one line of text, from the lowest value to the highest."""
    picked = [values[i * len(values) // width] for i in range(width)] if len(values) > width else list(values)
    low, high = min(picked), max(picked)
    return "".join(_BLOCKS[round((v - low) / (high - low) * 7) if high > low else 0] for v in picked)


def draw_schedule(
    epochs: Sequence[float], rates: Sequence[float], momenta: Sequence[float], name: str, path: Path
) -> None:
    """The same as a picture: learning rate, and momentum where it changes, against epochs."""
    figure, axes = pyplot().subplots(figsize=(8, 4), layout="constrained")
    (line,) = axes.plot(epochs, rates, color="tab:blue", label="learning rate")
    axes.set(xlabel="epoch", ylabel="learning rate", title=name)
    axes.grid(alpha=0.3)
    lines = [line]
    if len(set(momenta)) > 1:
        right = axes.twinx()
        lines += right.plot(epochs, momenta, color="tab:orange", label="momentum")
        right.set_ylabel("momentum")
    axes.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot().close(figure)
