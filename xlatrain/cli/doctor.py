"""`xlatrain doctor`: what is wrong with this machine, and the command that mends each."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from xlatrain.cli.verbs import take_flags
from xlatrain.config.compose import compose_config
from xlatrain.console import make_console, wrapped
from xlatrain.doctor.caches import Cleared, clear_caches
from xlatrain.doctor.examine import examine
from xlatrain.doctor.finding import FAILED, NOTE, OK, UNKNOWN, Finding, Machine
from xlatrain.errors import EXIT_DONE, EXIT_FAILED
from xlatrain.words import counted

_MARKS = {OK: "ok", NOTE: "note", FAILED: "FAILED", UNKNOWN: "-"}


def doctor(arguments: Sequence[str]) -> int:
    """`xlatrain doctor [--json] [--clear-cache] [overrides]`. Returns 1 if a check failed. Raises ConfigError."""
    flags, overrides = take_flags("doctor", arguments)
    config, _ = compose_config(overrides)
    if "--clear-cache" in flags:
        return _clear("--json" in flags)
    findings = examine(Machine(), config)
    wrong = sum(f.status == FAILED for group in findings.values() for f in group)
    if "--json" in flags:
        listed = [{"check": name, **asdict(f)} for name, group in findings.items() for f in group]
        sys.stdout.write(json.dumps({"failed": wrong, "findings": listed}, indent=2) + "\n")
    else:
        _print(findings, wrong)
    return EXIT_FAILED if wrong else EXIT_DONE


def _print(findings: dict[str, list[Finding]], wrong: int) -> None:
    console = make_console()
    width = max(map(len, findings)) + 2
    aside = " " * (8 + width)
    for name, group in findings.items():
        for number, finding in enumerate(group):
            first = f"{_MARKS[finding.status]:8}{'' if number else name:{width}}"
            lines = wrapped(first + finding.text, console.width, aside)
            if finding.cure:
                lines += wrapped(f"{aside}cure: {finding.cure}", console.width, aside + "  ")
            for line in lines:
                style = {FAILED: "bold red", UNKNOWN: "dim"}.get(finding.status)
                console.print(line, soft_wrap=True, style=style)
    console.print(f"{counted(wrong, 'check')} failed" if wrong else "nothing is wrong that can be seen from here")


def _clear(as_json: bool) -> int:
    cleared = clear_caches()
    if as_json:
        rows = [{**asdict(c), "folder": str(c.folder)} for c in cleared]
        sys.stdout.write(json.dumps({"cleared": rows}, indent=2) + "\n")
    else:
        for one in cleared:
            make_console().print(_told(one), soft_wrap=True)
    return EXIT_FAILED if any(one.busy for one in cleared) else EXIT_DONE


def _told(one: Cleared) -> str:
    if one.busy:
        return f"{one.folder}: in use, nothing removed\n  cure: wait for the plan that is compiling, then again"
    text = f"{one.folder}: {counted(one.files, 'file')}, {one.bytes / 1e6:,.1f} MB removed"
    return text + (f"; {counted(one.left, 'entry')} that xlatrain did not write left" if one.left else "")
