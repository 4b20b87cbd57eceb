"""A try of the run on a machine, in a session that no connection takes with it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from xlatrain.config.compose import compose_config
from xlatrain.errors import ConfigError
from xlatrain.launching.keep import Keeper
from xlatrain.launching.session import LOG, Session, locked, write_session
from xlatrain.launching.stage import stage_words
from xlatrain.xla.heartbeat import ELSEWHERE, FOLDER

_COPY_EVERY = 10.0  # seconds, of which a machine that vanishes takes the lines of metrics with it


def run_session(number: int, run: str, kept: str, stage: str, words: Sequence[str], supervised: bool = True) -> int:
    """Supervise a run to its end, copy what it writes, and write down its exit code, which is returned. number: of the
    try; run: its folder; kept: where copies go, "" for nowhere; stage: as launch.stage; words: overrides. supervised:
    not where who started this starts it again, with all machines, as JobSet does."""
    folder, child, stopped = Path(run), None, []

    def stop(signalled: int, frame: FrameType | None) -> None:
        stopped.append(signalled)
        if child is not None:
            child.send_signal(signal.SIGTERM)

    for heard in (signal.SIGTERM, signal.SIGINT):
        signal.signal(heard, stop)
    keeper = Keeper(folder, f"{kept.rstrip('/')}/{folder.name}") if kept else None
    began = time.strftime("%Y%m%d-%H%M%S", time.gmtime(number))
    log_name = f"{began}-{_worker()}.log"
    if keeper:
        keeper.bring_back()
    staged = []
    with contextlib.suppress(ConfigError):  # the run says it better
        staged = stage_words(compose_config(words)[0], stage, Path.cwd().name, Path.cwd())
    # Beside the folder of the run, which not every machine has.
    environment = {**os.environ, ELSEWHERE: str(Path(FOLDER).absolute())}
    supervise = ["supervise", "--"] if supervised else []
    command = [sys.executable, "-m", "xlatrain", *supervise, "train", *words, *staged]
    child = subprocess.Popen(command, env=environment)
    if stopped:
        stop(stopped[0], None)
    while True:
        try:
            code = child.wait(_COPY_EVERY)
            break
        except subprocess.TimeoutExpired:
            if keeper:
                keeper.copy(LOG, log_name)
    if keeper:
        keeper.copy(LOG, log_name)
    code = code if code >= 0 else 128 - code
    with locked():  # not before who started this has written down that it runs
        write_session(Session(number, os.getpid(), code))
    return code


def _worker() -> str:
    """This machine among those of its slice, as its log is called."""
    number = os.environ.get("TPU_WORKER_ID")
    return f"worker-{number}" if number else socket.gethostname()
