"""What the folder of a run says of it: also of one that failed at once, still goes on or has damaged lines."""

from __future__ import annotations

import json
import math
import re
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xlatrain.engine.health import RUNNING, look_at
from xlatrain.engine.metrics import METRICS
from xlatrain.engine.run_folder import OPS, PROFILE, read_options, read_summary
from xlatrain.engine.spent import PLACES
from xlatrain.errors import ConfigError, Fault

PARTS = ("config.yaml", METRICS, "summary.json")  # any of which a run has
_KINDS = ("train", "eval", "event")
_LARGEST = 1e100  # of a number that can be added up and drawn

Line = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """A run, or an evaluation. status, said: as of engine.health. step: how far it is. options: by their dotted keys,
    as its last start had them. origin: as of engine.provenance; empty where it is not known. train, eval, events: the
    lines of metrics.jsonl of each kind, in order; damaged: how many others it has. profile: as engine.profile writes
    it; empty where it has none."""

    name: str
    folder: Path
    status: str
    said: str
    step: int
    summary: dict[str, Any]
    options: dict[str, Any]
    origin: dict[str, Any]
    train: list[Line]
    eval: list[Line]
    events: list[Line]
    damaged: int
    profile: dict[str, Any]

    @property
    def goes_on(self) -> bool:
        return self.status == RUNNING

    @property
    def spent(self) -> dict[str, float]:
        """Seconds by what they were spent on, in the order of PLACES; empty where nothing says it."""
        if not self.goes_on and (found := spent_in(self.summary)):
            return found
        return max(map(spent_in, self.train + self.eval), key=lambda found: sum(found.values()), default={})

    @property
    def top1(self) -> float | None:
        """Of the last evaluation; None before the first."""
        if not self.goes_on and (value := number(self.summary.get("top1"))) is not None:
            return value
        return number(self.eval[-1].get("top1")) if self.eval else None

    @property
    def images_per_second(self) -> float | None:
        """Over the whole run, or of late where it goes on; None, as 0 in its files, before it is known."""
        last = self.train[-1] if self.train else {}
        return number(self.summary.get("images_per_second", last.get("images_per_second"))) or None


def number(value: Any) -> float | None:
    """A value as a finite number; None of anything else, as of null for one that was not finite, and of what no run
    measures."""
    try:
        found = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:  # of an integer
        return None
    return found if abs(found) < _LARGEST else None


def spent_in(line: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by what they were spent on up to a line, in the order of PLACES; empty where it does not say."""
    told = line.get("spent")
    if not isinstance(told, dict) or any(number(told.get(place)) is None for place in PLACES):
        return {}
    found = {place: max(0.0, told[place]) for place in PLACES}
    return found if any(found.values()) else {}


def is_run(folder: Path) -> bool:
    return any((folder / part).is_file() for part in PARTS)


def read_record(folder: Path, name: str) -> Record:
    """Read a run's folder. Raises ConfigError where it is none."""
    if not is_run(folder):
        problem = f"{folder} is no folder of a run: it has neither {' nor '.join(PARTS)}"
        raise ConfigError(Fault("report", problem, "give the folder of a run, runs/NAME, or its name"))
    health, summary = look_at(folder, time.time()), read_summary(folder)
    lines, damaged = _read_lines(folder / METRICS)
    config = _last_config(folder)
    told = summary.get("provenance")
    return Record(
        name=name,
        folder=folder,
        status=health.status,
        said=health.said,
        step=max([health.step, *(int(line["step"]) for line in lines)]),
        summary=summary,
        options={k: v for k, v in read_options(config).items() if not (isinstance(v, dict) and v)},
        origin=_origin(told if isinstance(told, dict) else _head(config)),
        train=[line for line in lines if line["kind"] == "train"],
        eval=[line for line in lines if line["kind"] == "eval"],
        events=[line for line in lines if line["kind"] == "event"],
        damaged=damaged,
        profile=_profile(folder / PROFILE / OPS),
    )


def _profile(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        sound = {found["first_step"] + found["last_step"] > 0, number(found["ms_per_step"]) > 0}
        for op in found["ops"]:
            sound |= {op["scope"] + op["operation"] + op["name"] is not None, number(op["ms"]) >= 0}
        return found if sound == {True} else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _read_lines(path: Path) -> tuple[list[Line], int]:
    """The whole lines of metrics.jsonl, and how many others there are: torn, or not what a run writes."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return [], 0
    found = list(_parsed(text))
    return [line for line in found if line is not None], found.count(None)


def _parsed(text: str) -> Iterator[Line | None]:
    for part in text.splitlines():
        try:
            line = json.loads(part)
            sound = line["kind"] in _KINDS and number(line["step"]) is not None and number(line["epoch"]) is not None
            sound &= line["kind"] != "event" or isinstance(line["event"], str)
        except (ValueError, KeyError, TypeError):
            sound = False
        yield line if sound else None


def _origin(told: Mapping[str, Any]) -> dict[str, Any]:
    """What of it has the types that engine.provenance gives."""
    kinds = {"versions": dict, "modified": bool}
    return {key: value for key, value in told.items() if isinstance(value, kinds.get(key, str))}


def _last_config(folder: Path) -> Path:
    """That of the last start: config.yaml, then config.2.yaml, ..."""

    def order(path: Path) -> int:
        found = re.fullmatch(r"config\.(\d+)\.yaml", path.name)
        return int(found[1]) if found else 0

    return max(folder.glob("config.*yaml"), key=order, default=folder / "config.yaml")


def _head(config: Path) -> dict[str, Any]:
    """Where a run comes from, as the comments say that begin its config.yaml."""
    try:
        lines = config.read_text().splitlines()
        head = "\n".join(line.removeprefix("#") for line in lines if line.startswith("#"))
        found = yaml.safe_load(textwrap.dedent(head))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
