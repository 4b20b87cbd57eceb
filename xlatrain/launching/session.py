"""The process that runs a try of the run on a machine, as a file says of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from xlatrain.files import write_json
from xlatrain.xla.heartbeat import process_state

LOG = Path("run.log")
_FILE, _LOCK = Path("session.json"), Path(".lock")


@dataclass(frozen=True)
class Session:
    """The process that runs a try of the run. number: when it was asked for, in seconds of the epoch. code: its exit
    code, None while it has none."""

    number: int
    pid: int
    code: int | None = None

    @property
    def state(self) -> str:
        if self.code is not None:
            return "ended"
        return "running" if (process_state(self.pid) or "X") not in "ZX" else "died"


def read_session() -> Session | None:
    """That of this folder, if any."""
    try:
        return Session(**json.loads(_FILE.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_session(session: Session) -> None:
    write_json(_FILE, asdict(session))


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Within, nobody else starts a try, or writes down that one is ended."""
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
