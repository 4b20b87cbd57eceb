"""metrics.jsonl, and what loggers are told: written, and cut where a run goes on from."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlatrain.credentials import masked
from xlatrain.engine.loggers.logger import Logger, numbers_of
from xlatrain.files import finite

METRICS, CUT = "metrics.jsonl", "metrics.cut.jsonl"
_GONE = 30.0  # seconds that a process of replicas may live on after its parent


class MetricsWriter:
    """Appends to metrics.jsonl, one object a line, and tells the loggers the numbers of each."""

    def __init__(self, folder: Path, loggers: Sequence[Logger] = ()):
        self._lines = (folder / METRICS).open("a", buffering=1)
        fcntl.flock(self._lines, fcntl.LOCK_SH)  # let go of when this process ends, which may be after its parent's end
        self._loggers = loggers

    def write(self, kind: str, step: int, epoch: float, **values: Any) -> None:
        """kind: train, eval or event. step: optimizer steps done; epoch: the same in epochs."""
        line = {"kind": kind, "step": step, "epoch": round(epoch, 6), **values}
        self._lines.write(json.dumps(masked(finite(line))) + "\n")
        numbers = numbers_of(values)
        for logger in self._loggers:
            logger.write(kind, step, epoch, numbers)

    def sync(self) -> None:
        """See that what was written is on the disk: a checkpoint must not stand without the lines that led to it."""
        os.fsync(self._lines.fileno())
        for logger in self._loggers:
            logger.flush()

    def close(self) -> None:
        self._lines.close()
        for logger in self._loggers:
            logger.close()


def cut_metrics(folder: Path, step: int, evaluated: bool = True) -> int:
    """Take the lines of later steps out of metrics.jsonl, as they will be written again; a last line that was torn goes
    too, and the evaluation of the step itself where it is made anew, since it is not evaluated in what was saved. They
    are kept in metrics.cut.jsonl. Returns how many whole ones went. The file is the old or the new one at any time."""
    path = folder / METRICS
    if not path.exists():
        return 0
    with path.open("rb") as file:
        stay, go = [], []
        for line in file.read().splitlines(keepends=True):
            at = _step(line)
            again = at == step and not evaluated and json.loads(line).get("kind") == "eval"
            (stay if at is not None and at <= step and not again else go).append(line)
    if not go:
        return 0
    with (folder / CUT).open("ab") as kept:
        kept.writelines(line if line.endswith(b"\n") else line + b"\n" for line in go)
        os.fsync(kept.fileno())
    draft = path.with_name(METRICS + ".part")
    with draft.open("wb") as file:
        file.writelines(stay)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return sum(_step(line) is not None for line in go)


def _step(line: bytes) -> int | None:
    """The step of a line; None where it is not whole."""
    try:
        return int(json.loads(line)["step"]) if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None


def wait_for_writer(folder: Path) -> None:
    """A process of replicas ends a moment after its parent was killed: until then it may write to metrics.jsonl, and
    end a save that it has begun."""
    if not (path := folder / METRICS).exists():
        return
    until = time.monotonic() + _GONE
    with path.open("rb") as file:
        while time.monotonic() < until:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)
