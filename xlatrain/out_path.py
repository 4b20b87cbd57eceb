"""Whether what a command names by out= can be written."""

from __future__ import annotations

import os
from pathlib import Path

from xlatrain.errors import Fault


def new_faults(out: str, what: str) -> list[Fault]:
    """Of something new, which takes the place of nothing. what: in the cure, as in name a new file."""
    path = Path(out)
    if path.exists():
        return [Fault("out", f"{out} is there already", f"name a new {what}, or remove it")]
    if not _is_open(path.parent):
        return [Fault("out", f"{path.parent} is no folder that can be written to", "name one of yours, or make it")]
    return []


def file_faults(path: Path) -> list[Fault]:
    """Of a file, which takes the place of one of before."""
    if path.is_dir() or not _is_open(path.absolute().parent):
        return [Fault("out", f"{path} cannot be written", "name a file in a folder of yours")]
    return []


def _is_open(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK)
