"""The stacks of all threads of a process, for those who ask what it hangs in, and what it was in when it aborted."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from xlatrain.xla.heartbeat import Heartbeat, process_state

_NAME = "stacks-"  # begins the name of a file with the stacks of a process, in the channel folder
_SIGNAL = signal.SIGUSR1
_open: list = []  # files that faulthandler writes to: it keeps the number of one only


def ready(channel: Path) -> None:
    """Have this process write its stacks when it is asked to, or when it aborts: without Python's help, so that it does
    so whatever it hangs in. Any thread may call this."""
    file = (channel / f"{_NAME}{os.getpid()}").open("w")
    _open.append(file)
    faulthandler.enable(file, all_threads=True)
    faulthandler.register(_SIGNAL, file, all_threads=True)


def gather(channel: Path, beats: Sequence[Heartbeat], ask: bool = True, seconds: float = 3.0) -> str:
    """The stacks of the processes of a run, those of replicas with their ordinals. ask: of processes that live, else
    what they have left."""
    files = {int(path.name.removeprefix(_NAME)): path for path in channel.glob(f"{_NAME}*")}
    said: dict[int, str] = {}
    if ask:
        for pid in files:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, _SIGNAL)
    until = time.monotonic() + seconds
    while True:
        said = {pid: path.read_text(errors="replace") for pid, path in sorted(files.items())}
        frozen = [pid for pid in files if process_state(pid) in ("T", None)]
        if not ask or all(text or pid in frozen for pid, text in said.items()) or time.monotonic() > until:
            break
        time.sleep(0.1)
    time.sleep(0.2 if ask else 0)  # a file that has begun is whole by then
    threads = {place.thread: ordinal for beat in beats for ordinal, place in beat.replicas.items() if place.thread}
    return "\n".join(_section(pid, files[pid].read_text(errors="replace"), threads) for pid in said)


def _section(pid: int, text: str, threads: dict[int, int]) -> str:
    def name(found: re.Match) -> str:
        ordinal = threads.get(int(found[1], 16))
        return found[0] if ordinal is None else f"{found[0]} of replica {ordinal}"

    if not text:
        why = "it is stopped" if process_state(pid) == "T" else "it did not answer"
        return f"no stacks of process {pid}: {why}\n" if process_state(pid) else ""
    return f"stacks of process {pid}:\n" + re.sub(r"[Tt]hread (0x[0-9a-f]+)", name, text)
