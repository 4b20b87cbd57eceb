"""Heartbeats: one small file for each process of a run, that says how far its replicas are and when it last beat."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from xlatrain.files import write_json

STARTING, BUILDING, COMPILING = "starting", "building", "compiling"
STEP, EVALUATING, SAVING = "step", "evaluating", "saving"
FOLDER = "heartbeats"  # of a run's folder
ELSEWHERE = "XLATRAIN_HEARTBEATS"  # the variable that names a folder for those of a machine that has none of the run


@dataclass(frozen=True)
class Whereabouts:
    """Where a replica is. phase: what it does; step: the one that it is in or was in last, 0 before the first; batch:
    of an evaluation; since: when it came there, in seconds of the epoch; thread: its identity."""

    phase: str = STARTING
    step: int = 0
    batch: int = 0
    since: float = 0.0
    thread: int = 0


@dataclass(frozen=True)
class Heartbeat:
    """What a process says of itself. time: when, in seconds of the epoch. replicas: by ordinal; empty until the process
    has its devices."""

    host: str
    pid: int
    time: float
    replicas: dict[int, Whereabouts] = field(default_factory=dict)

    @property
    def is_alive(self) -> bool | None:
        """Whether the process is there; None where that cannot be told, as it is another machine's."""
        if self.host != socket.gethostname():
            return None
        state = process_state(self.pid)
        return state is not None and state not in "ZX"


def process_state(pid: int) -> str | None:
    """The state of a process of this machine, a letter as ps has it: T is stopped. None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def write(folder: Path, beat: Heartbeat) -> None:
    """Write a heartbeat whole or not at all, in place of the one before; where the disk is full or the folder closed,
    into its bytes, which are there already: a run that nobody hears of would be taken for one that hangs."""
    path, content = folder / f"{beat.host}-{beat.pid}.json", asdict(beat)
    try:
        write_json(path, content)
    except OSError:
        with path.open("r+b", buffering=0) as file:
            file.write(json.dumps(content).encode().ljust(path.stat().st_size))


def read(folder: Path) -> list[Heartbeat]:
    """The heartbeats in a folder, by the first ordinal of each; of processes that have none yet last."""
    beats = []
    for path in folder.glob("*.json"):
        try:
            said = json.loads(path.read_text())
            places = {int(ordinal): Whereabouts(**place) for ordinal, place in said.pop("replicas").items()}
            beats.append(Heartbeat(**said, replicas=places))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # cleared just now, or of another version
    return sorted(beats, key=lambda beat: (min(beat.replicas, default=1 << 31), beat.pid))


def last_step(folder: Path) -> int:
    """The step that some replica was in last."""
    return max((place.step for beat in read(folder) for place in beat.replicas.values()), default=0)


def clear(folder: Path) -> None:
    """Make the folder, and take away what an earlier start of the run has left in it, drafts too."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json*"):
        path.unlink(missing_ok=True)


def own(replicas: dict[int, Whereabouts], now: float) -> Heartbeat:
    """That of this process."""
    return Heartbeat(socket.gethostname(), os.getpid(), now, replicas)


def describe_behind(beats: Iterable[Heartbeat]) -> str:
    """Which replicas are behind the others, in words; where all are equally far, that they are."""
    places = {n: (place, beat) for beat in beats for n, place in beat.replicas.items()}
    if not places:
        return "no replica had its device yet"
    far = {n: (place.step, place.batch) for n, (place, _) in places.items()}
    least, most = min(far.values()), max(far.values())
    first = next(iter(places.values()))[0]
    if least == most and len({place.phase for place, _ in places.values()}) == 1:
        return f"all {len(places)} replicas are equally far: {describe(first)}"
    if least == most:
        return "; ".join(f"replica {n} is {describe(place)}" for n, (place, _) in places.items())
    late = [n for n in places if far[n] == least]
    ahead = next(place for n, (place, _) in places.items() if far[n] == most)
    who = _replicas(late)
    pids = ", ".join(sorted({f"{places[n][1].pid}" for n in late}))
    words = "is" if len(late) == 1 else "are"
    return f"{who} (pid {pids}) {words} behind: last seen {describe(places[late[0]][0])}, others {describe(ahead)}"


def _replicas(numbers: list[int]) -> str:
    return f"replica{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def describe(place: Whereabouts) -> str:
    """What a replica does, in words."""
    if place.phase == STEP:
        return f"in step {place.step}"
    if place.phase == EVALUATING:
        return f"evaluating after step {place.step}, batch {place.batch}"
    return f"{place.phase} after step {place.step}" if place.step else place.phase
