"""Whether what a run is to keep will find room."""

from __future__ import annotations

import shutil
from pathlib import Path

from xlatrain.errors import Fault

_GIB = 2**30


def space_faults(key: str, folder: str | Path, each: int, kept: int) -> list[Fault]:
    """That a folder, which need not exist yet, lacks room for `kept` files or folders of `each` bytes, and for one more
    that is written before the oldest goes. key: the option that asks for them."""
    there = existing(Path(folder))
    needed, free = each * (kept + 1), shutil.disk_usage(there).free
    if needed <= free:
        return []
    problem = f"{kept} of {each / _GIB:.2f} GiB, and one in the making, need {needed / _GIB:.2f} GiB"
    fitting = free // each - 1
    cure = f"{key}={fitting}, or " if fitting >= 1 else ""
    problem += f"; {there} has {free / _GIB:.2f} GiB free"
    return [Fault(key, problem, f"{cure}free some, or name another folder")]


def existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())
