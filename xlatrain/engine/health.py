"""How a run is, by what is in its folder: for one who looks from outside, while it goes on or after."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xlatrain.engine.run_folder import LOCK, read_summary
from xlatrain.xla import heartbeat
from xlatrain.xla.heartbeat import FOLDER, Heartbeat

RUNNING, DIED, NEVER = "running", "died", "never begun"
_SILENT = 10.0  # seconds without a heartbeat, of which there is one a second
_APART = 2  # steps that replicas may be apart, handed to the device ahead of time


@dataclass(frozen=True)
class Process:
    """A process of a run. replicas: ordinals. doing: of the one that is least far. idle: seconds since it came there.
    age: of the heartbeat, in seconds. verdict: ok, or what is wrong with it."""

    host: str
    pid: int
    replicas: list[int]
    doing: str
    step: int
    idle: float
    age: float
    verdict: str


@dataclass(frozen=True)
class Health:
    """status: running; done, failed or stopped as its summary says; died, without a word; never begun. total: steps
    that it is to have, where that is known. said: the last words of one that failed."""

    folder: str
    status: str
    step: int
    said: str
    processes: list[Process]

    @property
    def is_well(self) -> bool:
        sick = self.status == RUNNING and any(p.verdict != "ok" for p in self.processes)
        return self.status not in (DIED, "failed") and not sick


def look_at(folder: Path, now: float) -> Health:
    """How the run of a folder is. now: seconds of the epoch."""
    beats, summary = heartbeat.read(folder / FOLDER), read_summary(folder)
    running = _is_held(folder)
    if running:
        status = RUNNING
    elif summary:
        status = summary.get("status", DIED)
    else:
        status = DIED if beats else NEVER
    step = max([summary.get("steps", 0) if not running else 0, *(p.step for b in beats for p in b.replicas.values())])
    processes = [_process(beat, beats, now) for beat in beats] if status in (RUNNING, DIED) else []
    said = summary.get("error") or summary.get("stopped_by") or ""
    return Health(str(folder), status, step, said if not running else "", processes)


def _process(beat: Heartbeat, beats: Sequence[Heartbeat], now: float) -> Process:
    far = max((p.step for b in beats for p in b.replicas.values()), default=0)
    place = min(beat.replicas.values(), key=lambda p: (p.step, p.batch), default=heartbeat.Whereabouts(since=beat.time))
    age = max(0.0, now - beat.time)
    verdict = "ok"
    if beat.is_alive is False:
        verdict = "dead"
    elif beat.is_alive and heartbeat.process_state(beat.pid) == "T":
        verdict = "stopped by a signal"
    elif age > _SILENT:
        verdict = "silent"
    elif place.step < far - _APART:
        verdict = "behind"
    doing = heartbeat.describe(place)
    idle, age = round(max(0.0, now - place.since), 1), round(age, 1)
    return Process(beat.host, beat.pid, sorted(beat.replicas), doing, place.step, idle, age, verdict)


def _is_held(folder: Path) -> bool:
    """Whether a run has the folder now."""
    try:
        with (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False
