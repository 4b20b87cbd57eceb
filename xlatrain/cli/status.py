"""`xlatrain status RUN`: how a run is, while it goes on and after."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from xlatrain.cli.verbs import take_flags
from xlatrain.console import make_console, print_whole
from xlatrain.engine.health import RUNNING, Health, look_at
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, ConfigError, Fault
from xlatrain.words import ranges


def status(arguments: Sequence[str]) -> int:
    """`xlatrain status RUN [--json]`. Exit code 0 where all is well, 1 where the run failed, died or is sick. Raises
    ConfigError."""
    flags, names = take_flags("status", arguments)
    if len(names) != 1:
        raise ConfigError(Fault("status", f"{len(names)} runs are named", "write xlatrain status runs/NAME"))
    health = look_at(_folder(names[0]), time.time())
    if "--json" in flags:
        make_console().print(json.dumps(asdict(health), indent=2), soft_wrap=True)
    else:
        _print(health)
    return EXIT_DONE if health.is_well else EXIT_FAILED


def _folder(name: str) -> Path:
    for folder in (Path(name), Path("runs") / name):
        if folder.is_dir():
            return folder
    raise ConfigError(Fault("status", f"there is no folder {name}", "give the folder of a run, runs/NAME"))


def _print(health: Health) -> None:
    console = make_console()
    said = f": {health.said}" if health.said else ""
    console.print(f"{health.folder}: {health.status}, step {health.step:,}{said}", soft_wrap=True)
    if health.status == RUNNING and not health.processes:
        console.print("no process has said anything yet")
    if not health.processes:
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("process", "state", "replicas", "doing", "for", "heard"):
        table.add_column(heading)
    for p in health.processes:
        row = (f"{p.host}:{p.pid}", p.verdict, ranges(p.replicas), p.doing, f"{p.idle:.0f} s", f"{p.age:.0f} s ago")
        table.add_row(*row)
    print_whole(table, console)
