"""`xlatrain data bench`: what this host can prepare of the user's own data, against what the cluster takes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from rich.table import Table

from xlatrain.cli.verbs import take_flags
from xlatrain.console import make_console, print_whole, stamped_lines
from xlatrain.data.sharded import ShardedSplit
from xlatrain.engine.input_bench import InputBench, measure
from xlatrain.errors import EXIT_DONE, ConfigError, Fault
from xlatrain.files import InputFigure, keep_input_figure
from xlatrain.preflight.check import check
from xlatrain.preflight.checked import CheckedRun
from xlatrain.words import counted


def data(arguments: Sequence[str]) -> int:
    """`xlatrain data bench [--json] [seconds=5] [need=IMAGES_PER_SECOND_A_HOST] [overrides]`. Raises ConfigError."""
    if not arguments or arguments[0] != "bench":
        what = " ".join(arguments[:1]) or "nothing to do"
        raise ConfigError(Fault("data", what, "write xlatrain data bench data=imagenet data.root=..."))
    flags, overrides = take_flags("data", arguments[1:])
    seconds, need = _number(flags, "seconds", 5.0), _number(flags, "need", None)
    run = check(overrides, starts=False)
    if not isinstance(run.dataset.train, ShardedSplit):
        problem = f"{run.config.data.name} are no shards, the reading of which is measured"
        raise ConfigError(Fault("data", problem, "take data=shards data.root=..."))
    say = stamped_lines()
    found = measure(run, seconds, _needed(run, say) if need is None else need, say)
    keep_input_figure(
        InputFigure(found.images_per_second_core, found.image_size, found.data, time.strftime("%Y-%m-%d"))
    )
    if "--json" in flags:
        sys.stdout.write(json.dumps(asdict(found)) + "\n")
    else:
        _print(found)
    return EXIT_DONE


def _needed(run: CheckedRun, say: Callable[[str], None]) -> float | None:
    """Images per second that a host of the cluster takes, by `xlatrain plan`; None where it cannot say."""
    if run.config.cluster.platform != "tpu":
        return None
    from xlatrain.planning.compile import check_compiler
    from xlatrain.planning.plan import make_plan

    try:
        check_compiler()
    except ConfigError as error:
        say(f"what the cluster takes is not computed: {error.faults[0].cure}")
        return None
    found = make_plan(run, say).as_dict()["images_per_second_per_host"]
    return None if found is None else round(found, 1)


def _number(flags: Mapping[str, str], name: str, default: float | None) -> float | None:
    if name not in flags:
        return default
    try:
        value = float(flags[name])
    except ValueError:
        value = -1.0
    if not 0 < value < 1e12:
        raise ConfigError(Fault(name, f"{flags[name]!r} is no number above 0", f"write {name}=5"))
    return value


def _print(found: InputBench) -> None:
    console = make_console()
    table = Table("step", "µs an image", "share", "", box=None, pad_edge=False)
    total = sum(found.microseconds.values())
    for name, value in found.microseconds.items():
        share = value / total if total else 0.0
        table.add_row(name, f"{value:,.0f}", f"{share:.0%}", "█" * round(40 * share))
    console.print(f"{found.data}: {counted(found.samples, 'image')}, to {found.image_size} px, decoder {found.decoder}")
    print_whole(table, console)
    console.print(f"one core         {found.images_per_second_core:,.0f} images/s of processor time")
    parts = f"{counted(found.workers, 'worker')}, {counted(found.cores, 'core')}"
    console.print(f"this host        {found.images_per_second_host:,.0f} images/s ({parts})")
    if found.needed_per_host is not None:
        console.print(f"a host's cores   take {found.needed_per_host:,.0f} images/s")
    console.print(found.verdict, soft_wrap=True)
