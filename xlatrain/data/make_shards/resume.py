"""What a run leaves for the next one: which shards of which plan are finished. In SPLIT/.progress until all are."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from xlatrain.data.shard_format import INDEX, Shard, read_index, write_index
from xlatrain.data.storage.retry import DEFAULTS
from xlatrain.data.storage.streams import read_all
from xlatrain.errors import ConfigError, Fault
from xlatrain.files import write_json

PROGRESS, BAD_FILES = ".progress", "bad_files.txt"


@dataclass(frozen=True)
class Report:
    """What became of the images of one shard. bad: names of those left out, and why."""

    shard: Shard
    counts: dict[str, int]
    bad: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FolderState:
    """A split's folder as a run finds it. complete: the index is there, and holds what this plan comes to."""

    folder: Path
    fingerprint: str
    finished: dict[str, Report]
    complete: bool = False


def open_state(folder: Path, fingerprint: str) -> FolderState:
    """Raises ConfigError when the folder holds something else than a part of this plan."""
    if not folder.is_dir() or all(path.name in (PROGRESS, BAD_FILES) for path in folder.iterdir()):
        return FolderState(folder, fingerprint, {})
    made_from = _read(folder / INDEX).get("made_from")
    if (made_from or _read(folder / PROGRESS / "plan.json")).get("fingerprint") != fingerprint:
        problem = f"{folder} holds files of another plan: other images, or other options"
        raise ConfigError(Fault("DST", problem, f"name another folder, or remove it: rm -r {folder}"))
    if made_from:
        read_index(folder, key="DST")
        return FolderState(folder, fingerprint, {}, complete=True)
    reports = [_report(_read(path)) for path in sorted((folder / PROGRESS).glob("shard-*.json"))]
    return FolderState(folder, fingerprint, {r.shard.name: r for r in reports if r and _is_there(folder, r.shard)})


def is_complete(folder: Path, fingerprint: str) -> bool:
    """Whether there is nothing to do, seen without a look at the images."""
    return _read(folder / INDEX).get("made_from", {}).get("fingerprint") == fingerprint


@contextlib.contextmanager
def writing(state: FolderState) -> Iterator[None]:
    """The folder ready for shards, and this run's alone. At the end, also after an error, no half shard is left."""
    (state.folder / PROGRESS).mkdir(parents=True, exist_ok=True)
    with open(state.folder / PROGRESS / "lock", "w") as lock:
        _lock(lock, state.folder)
        write_json(state.folder / PROGRESS / "plan.json", {"fingerprint": state.fingerprint})
        _remove_drafts(state.folder)
        for old in () if state.finished else (state.folder / PROGRESS).glob("shard-*.json"):
            old.unlink()
        try:
            yield
        finally:
            _remove_drafts(state.folder)


def _lock(file: TextIO, folder: Path) -> None:
    """Held until the file is closed or the process dies. Not every network's file system has locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(Fault("DST", f"another run is writing {folder}", "wait for it, or end it")) from None
    except OSError:
        return


def _remove_drafts(folder: Path) -> None:
    for draft in [*folder.glob("*.part"), *(folder / PROGRESS).glob("*.part")]:
        draft.unlink(missing_ok=True)


def keep(state: FolderState, report: Report) -> None:
    """A shard is finished."""
    write_json(state.folder / PROGRESS / f"{Path(report.shard.name).stem}.json", asdict(report))


def finish(state: FolderState, reports: list[Report], class_names: tuple[str, ...], counts: dict[str, int]) -> None:
    """Write the index, which makes the folder a data set."""
    for report in reports:
        if not report.shard.samples:  # every image was bad
            (state.folder / report.shard.name).unlink(missing_ok=True)
    made_from = {"fingerprint": state.fingerprint, "counts": counts, "left_out": sum(len(r.bad) for r in reports)}
    shards = [r.shard for r in reports if r.shard.samples]
    write_index(state.folder, shards, class_names, made_from=made_from)
    shutil.rmtree(state.folder / PROGRESS)


def left_out(state: FolderState) -> int:
    """How many images a complete split is without."""
    return _read(state.folder / INDEX)["made_from"].get("left_out", 0)


def _read(path: Path) -> dict:
    """Nothing for a file that is missing or damaged."""
    try:
        content = json.loads(read_all(str(path), DEFAULTS))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _report(content: dict) -> Report | None:
    try:
        shard = Shard(**(content["shard"] | {"marks": tuple(content["shard"]["marks"])}))
        if shard.name != Path(shard.name).name or not shard.name.endswith(".tar"):
            return None  # it would be removed, or taken for one of ours
        return Report(shard, content["counts"], tuple((name, reason) for name, reason in content["bad"]))
    except (KeyError, TypeError, ValueError):
        return None


def _is_there(folder: Path, shard: Shard) -> bool:
    path = folder / shard.name
    return path.exists() and path.stat().st_size == shard.bytes
