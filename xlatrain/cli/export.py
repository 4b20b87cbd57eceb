"""The verb `export`: a run's steps as a folder that runs without xlatrain, or its weights as what others load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xlatrain.bundle.export import check_export
from xlatrain.bundle.export import export as export_bundle
from xlatrain.cli.verbs import take_flags
from xlatrain.console import make_console, stamped_lines
from xlatrain.errors import EXIT_DONE, ConfigError, Fault
from xlatrain.formats.kinds import KINDS

_STEP = "write xlatrain export step out=FOLDER"


def export(arguments: Sequence[str]) -> int:
    """`xlatrain export step out=FOLDER [overrides]`, or timm, onnx, torch, stablehlo with weights=FILE. Raises
    ConfigError."""
    what, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if what == "step":
        return _export_step(rest)
    if what in KINDS:
        return _export_weights(what, rest)
    cure = f"{_STEP}, or xlatrain export {'|'.join(KINDS)} weights=FILE out=PATH"
    raise ConfigError(Fault("export", what or "nothing to export", cure))


def _export_step(arguments: Sequence[str]) -> int:
    flags, overrides = take_flags("export", arguments)
    if not flags.get("out"):
        raise ConfigError(Fault("out", "no folder is named", _STEP))
    folder = Path(flags["out"])
    run = check_export(overrides, folder)
    say = stamped_lines()
    for note in run.notes:
        say(note)
    export_bundle(run, folder, say)
    _print_files(folder)
    return EXIT_DONE


def _export_weights(kind: str, arguments: Sequence[str]) -> int:
    from xlatrain.formats.check_export import check_export_of_weights
    from xlatrain.formats.export_weights import export_weights, in_words

    flags, overrides = take_flags("export", arguments)
    checked = check_export_of_weights(kind, overrides, flags.get("out"), flags.get("batch", "1"))
    say = stamped_lines()
    for note in checked.evaluation.notes:
        say(note)
    comparison = export_weights(checked, say=say)
    say(in_words(comparison))
    _print_files(checked.out)
    return EXIT_DONE


def _print_files(path: Path) -> None:
    console = make_console()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        console.print(f"{file}  {file.stat().st_size:,} bytes", soft_wrap=True)
