"""The verb `export`: a run's steps as a folder that runs without xlatrain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xlatrain.bundle.export import check_export, export
from xlatrain.cli.verbs import take_flags
from xlatrain.console import make_console, stamped_lines
from xlatrain.errors import EXIT_DONE, ConfigError, Fault


def export_step(arguments: Sequence[str]) -> int:
    """`xlatrain export step out=FOLDER [overrides]`. Raises ConfigError."""
    command = "write xlatrain export step out=FOLDER"
    if not arguments or arguments[0] != "step":
        raise ConfigError(Fault("export", " ".join(arguments[:1]) or "nothing to export", command))
    flags, overrides = take_flags("export", arguments[1:])
    if not flags.get("out"):
        raise ConfigError(Fault("out", "no folder is named", command))
    folder = Path(flags["out"])
    run = check_export(overrides, folder)
    say = stamped_lines()
    for note in run.notes:
        say(note)
    export(run, folder, say)
    console = make_console()
    for path in sorted(folder.iterdir()):
        console.print(f"{path}  {path.stat().st_size:,} bytes", soft_wrap=True)
    return EXIT_DONE
