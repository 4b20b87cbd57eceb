"""What is kept between runs: how large it is, whether it can be trusted, and its removal."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xlatrain.config.schema import Config
from xlatrain.doctor.finding import FAILED, NOTE, OK, Finding, Machine
from xlatrain.files import clearing, user_cache
from xlatrain.words import counted

_SECONDS = 2.0  # that measuring may take
_PLAN = re.compile(r"[0-9a-f]{32}")  # folders of `xlatrain plan`
_JAX = ("-cache", "-atime")  # ends of what JAX writes


@dataclass(frozen=True)
class Cleared:
    """What was removed of a cache. left: what is in it that is not ours. busy: a run uses it, and nothing was done."""

    folder: Path
    files: int = 0
    bytes: int = 0
    left: int = 0
    busy: bool = False


def check_caches(machine: Machine, config: Config) -> Iterator[Finding]:
    """Sizes; and, since programs are taken from them and run, that nobody else can write there."""
    known = {
        "of JAX": machine.variables.get("JAX_COMPILATION_CACHE_DIR") or user_cache() / "jax",
        "of plans": user_cache() / "plan",
        "of weights": user_cache() / "weights",
        "of torch_xla": machine.variables.get("XLA_PERSISTENT_CACHE_PATH"),
        "of data": getattr(config.data, "cache", None),
    }
    found = {what: Path(folder) for what, folder in known.items() if folder and Path(folder).is_dir()}
    if not found:
        yield Finding(OK, f"none yet; they will be in {user_cache()}")
    deadline = time.monotonic() + _SECONDS
    for what, folder in found.items():
        bytes_, files, whole = _measure(folder, deadline)
        text = f"{what}: {'' if whole else 'more than '}{bytes_ / 1e6:,.1f} MB in {counted(files, 'file')}, {folder}"
        yield Finding(OK, text)
        if what != "of data":
            yield from _trust(folder)


def _trust(folder: Path) -> Iterator[Finding]:
    for path in (folder, folder.parent):
        status = path.stat()
        if status.st_uid not in (os.getuid(), 0):
            cure = f"sudo chown -R $USER {path}, or export XDG_CACHE_HOME=FOLDER"
            yield Finding(FAILED, f"{path} belongs to another user, whose programs this one would run", cure)
        elif status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            text = f"everybody can write to {path}, and put programs there that this user runs"
            yield Finding(FAILED, text, f"chmod o-w {path}")
        elif not os.access(path, os.W_OK):
            yield Finding(NOTE, f"{path} cannot be written: nothing new is kept", "export XDG_CACHE_HOME=FOLDER")


def _measure(folder: Path, deadline: float) -> tuple[int, int, bool]:
    """Bytes, files, and whether that is all. Links are not followed."""
    size = count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size, count = size + os.lstat(os.path.join(place, name)).st_size, count + 1
        if time.monotonic() > deadline:
            return size, count, False
    return size, count, True


def clear_caches() -> list[Cleared]:
    """Remove the programs that runs and plans of this user keep in user_cache(), which is ours; not those in folders
    that the environment names."""
    return [_clear(user_cache() / "jax", _entries_of_jax), _clear(user_cache() / "plan", _entries_of_plan)]


def _clear(folder: Path, entries: Callable[[Path], list[Path]]) -> Cleared:
    """A program that a run has open stays readable for it, and one that it misses it compiles anew; what it would
    stumble over, a plan's folder that goes while it is written, is locked (files.using)."""
    if folder.is_symlink() or not folder.is_dir():
        return Cleared(folder, left=int(folder.is_symlink()))
    count = size = left = 0
    with clearing(folder) as free:
        if not free:
            return Cleared(folder, busy=True)
        for path in sorted(folder.iterdir()):
            if not (ours := entries(path)):
                left += not path.name.startswith(".")
            for file in ours:
                with contextlib.suppress(OSError):
                    bytes_ = file.lstat().st_size
                    file.unlink()
                    count, size = count + 1, size + bytes_
            if ours and path.is_dir():
                with contextlib.suppress(OSError):  # there is something else in it
                    path.rmdir()
    return Cleared(folder, count, size, left)


def _entries_of_jax(path: Path) -> list[Path]:
    return [path] if path.name.endswith(_JAX) and path.is_file() and not path.is_symlink() else []


def _entries_of_plan(path: Path) -> list[Path]:
    """The files of a compiled step; what makes it one goes first."""
    if not _PLAN.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return []
    known = [path / name for name in ("result.json", "optimised.hlo.gz", "request.json", "log")]
    return [file for file in known if file.is_file() or file.is_symlink()]
