"""Whether a machine can hold all remote shards of a run, so that each is fetched once and no more."""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec

from xlatrain.config.schema import Config
from xlatrain.console import say
from xlatrain.credentials import masked
from xlatrain.errors import in_a_line

_MEMORY = Path("/dev/shm")
_SHARE = {"memory": 0.5, "disk": 0.8}  # of what is free: workers, checkpoints and logs need some too


def stage_words(config: Config, stage: str, name: str, here: Path) -> list[str]:
    """Overrides that have a run keep its shards; none where they are here already, kept already, or do not fit. name:
    of the folder; here: a folder of the machine's disk."""
    root, cache = getattr(config.data, "root", ""), getattr(config.data, "cache", "")
    if stage == "none" or "://" not in root or cache is not None:
        return []
    try:
        system, path = fsspec.url_to_fs(root)
        if not (size := system.du(path)):
            raise FileNotFoundError("nothing is there")
    except Exception as error:  # of any store's library
        say(masked(f"xlatrain launch: {root} is not measured ({in_a_line(error)}): its shards are not kept"))
        return []
    folders = {"memory": _MEMORY / name, "disk": here / "shards"}
    free = {"memory": _free_memory(), "disk": shutil.disk_usage(here).free}
    if (place := choose_place(stage, size, free)) is None:
        say(f"xlatrain launch: {size / 1e9:,.1f} GB of shards do not fit into {stage_name(stage)}: they are not kept")
        return []
    say(f"xlatrain launch: {size / 1e9:,.1f} GB of shards are kept in {folders[place]} once read")
    return [f"data.cache={folders[place]}"]


def choose_place(stage: str, size: int, free: dict[str, int]) -> str | None:
    """memory or disk, whichever of those allowed holds so many bytes; None where none does."""
    wanted = ("memory", "disk") if stage == "auto" else (stage,)
    return next((place for place in wanted if size <= free[place] * _SHARE[place]), None)


def stage_name(stage: str) -> str:
    return "memory or on the disk" if stage == "auto" else stage


def _free_memory() -> int:
    """Bytes that files in memory may take: there is a limit to those too."""
    try:
        available = next(
            int(line.split()[1]) << 10
            for line in Path("/proc/meminfo").read_text().splitlines()
            if line.startswith("MemAvailable")
        )
        return min(available, shutil.disk_usage(_MEMORY).free)
    except (OSError, StopIteration):
        return 0
