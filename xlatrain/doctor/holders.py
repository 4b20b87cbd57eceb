"""Who holds the TPU: a chip is opened by one process at a time, and libtpu's lock file by one user's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xlatrain.config.schema import Config
from xlatrain.credentials import masked
from xlatrain.doctor.devices import tpu_chips, tpu_files
from xlatrain.doctor.finding import FAILED, OK, UNKNOWN, Finding, Machine
from xlatrain.words import counted, listed

LOCK = "/tmp/libtpu_lockfile"  # of libtpu 0.0.21, by its own messages
_MOST = 100  # characters of a command line


@dataclass(frozen=True)
class _Holder:
    pid: int
    files: tuple[str, ...]
    command: str
    owner: int


def check_holders(machine: Machine, config: Config) -> Iterator[Finding]:
    """Processes that have a chip or the lock file open, and a lock file that this user cannot take."""
    if not tpu_chips(machine):
        yield Finding(UNKNOWN, "not looked for: there is no TPU here")
        return
    holders, hidden = _look(machine, {*tpu_files(machine), LOCK})
    for holder in holders:
        sudo = "" if os.getuid() in (0, holder.owner) else "sudo "
        text = f"process {holder.pid} holds {listed(holder.files, 4)}: {holder.command}"
        yield Finding(FAILED, text, f"{sudo}kill {holder.pid}")
    lock = machine.path(LOCK)
    if lock.exists() and not os.access(lock, os.R_OK | os.W_OK):
        yield Finding(FAILED, f"{LOCK} belongs to another user, and libtpu cannot take it", f"sudo rm {LOCK}")
    elif hidden and not holders:
        text = f"nobody of this user; the files of {counted(hidden, 'process')} of others cannot be seen"
        yield Finding(UNKNOWN, text, "sudo env PATH=$PATH xlatrain doctor")
    elif not holders:
        yield Finding(OK, "nobody")


def _look(machine: Machine, files: set[str]) -> tuple[list[_Holder], int]:
    """The processes, this one aside, that have any of the files open, and how many may not be looked into."""
    found, hidden = [], 0
    for folder in sorted(machine.path("/proc").glob("[0-9]*"), key=lambda p: (len(p.name), p.name)):
        if folder.name == str(os.getpid()):
            continue
        try:
            held = {name for entry in (folder / "fd").iterdir() if (name := _target(entry)) in files}
        except PermissionError:
            hidden += 1
            continue
        except OSError:  # it has ended
            continue
        if held:
            found.append(_Holder(int(folder.name), tuple(sorted(held)), _command(folder), folder.stat().st_uid))
    return found, hidden


def _target(entry: Path) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(entry)
    return ""


def _command(folder: Path) -> str:
    """The command line, with what may be a secret masked, for it is printed."""
    try:
        text = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        text = ""
    text = "".join(c if c.isprintable() else "?" for c in masked(text))  # it is somebody else's, and goes to a terminal
    text = text or "a process without a command line"
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"
