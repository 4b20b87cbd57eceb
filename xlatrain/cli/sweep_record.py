"""Which jobs a sweep has, in its jobs.jsonl: one that is started again knows by it which of them it has begun."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlatrain.config.choices import split_command
from xlatrain.config.option import settings
from xlatrain.config.override import SWEEP
from xlatrain.config.schema import Config
from xlatrain.credentials import masked
from xlatrain.engine.run_folder import read_summary

JOBS = "jobs.jsonl"


@dataclass(frozen=True)
class Job:
    """A job of a sweep. number: its folder. overrides: its command's, in order."""

    number: int
    overrides: tuple[str, ...]


def number_jobs(folder: Path, jobs: Sequence[Sequence[str]], config: Config, swept: frozenset[str]) -> list[int]:
    """The numbers of jobs, given as their overrides: those that they have, and for new ones the next, which are written
    down. config: of one of them. swept: the options that have several values. Safe from several processes."""
    with (folder / JOBS).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        file.truncate(len(text[: text.rfind("\n") + 1].encode()))
        known = {tuple(line["key"]): line["job"] for line in _whole_lines(text)}
        numbers, may_change = [], {key: free for key, (_, free) in settings(config).items()}
        for overrides in jobs:
            key = _key(overrides, may_change, swept)
            if key not in known:
                known[key] = len(known)
                line = {"job": known[key], "overrides": masked(list(overrides)), "key": key}
                file.write(json.dumps(line) + "\n")
            numbers.append(known[key])
    return numbers


def recorded_jobs(folder: Path) -> list[Job]:
    """The jobs of a sweep, by their numbers."""
    return [Job(line["job"], tuple(line["overrides"])) for line in _whole_lines((folder / JOBS).read_text())]


def _whole_lines(text: str) -> list[dict[str, Any]]:
    """What is written down; a last line that was torn, as its process was killed, is none."""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def summary_of(folder: Path, job: Job) -> dict[str, Any]:
    """What came of a job so far; where it has written nothing down, that it is not done."""
    path = folder / str(job.number)
    begun = {"status": "begun" if path.exists() else "not begun", "overrides": list(job.overrides)}
    return begun | read_summary(path)


def _key(overrides: Sequence[str], may_change: Mapping[str, bool], swept: frozenset[str]) -> tuple[str, ...]:
    """What tells a job from others: its overrides in any order, but for those that a run may change when it goes on, as
    its length and its cluster, unless the sweep is over them. may_change: of every option."""
    kept = []
    for text in split_command(overrides)[1]:
        key = text.partition("=")[0]
        asked = [free for option, free in may_change.items() if option == key or option.startswith(f"{key}.")]
        if key in swept or not (key == SWEEP or (asked and all(asked))):
            kept.append(text)
    return tuple(sorted(masked(kept)))
