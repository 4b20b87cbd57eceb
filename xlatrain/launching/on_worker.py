"""What `xlatrain launch` runs on each machine: `python -m xlatrain.launching.on_worker VERB ...`, in a folder of the
machine's own. It answers by a line of JSON, and a second time as the first: connections break, and gcloud then says
everything again."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from xlatrain.config.compose import compose_config
from xlatrain.engine.health import look_at
from xlatrain.engine.provenance import versions
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, ConfigError
from xlatrain.files import write_json
from xlatrain.launching.answer import MARK
from xlatrain.launching.keep import Keeper
from xlatrain.launching.stage import stage_words
from xlatrain.preflight.store import store_faults
from xlatrain.xla.heartbeat import ELSEWHERE, FOLDER, last_step, process_state

LOG = Path("run.log")
_SESSION, _LOCK, _ASKED = Path("session.json"), Path(".lock"), Path(".stop")
_COPY_EVERY = 10.0  # seconds, of which a machine that vanishes takes the lines of metrics with it
_SUMMARY = ("status", "top1", "top5", "loss", "steps", "wall_seconds", "images_per_second", "sha256")


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


def main(arguments: list[str]) -> int:
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    parser = argparse.ArgumentParser(prog="xlatrain.launching.on_worker")
    parser.add_argument("verb", choices=("check", "start", "session", "look", "stop"))
    parser.add_argument("--try", dest="number", type=int, default=0)
    parser.add_argument("--run", default="")  # the run's folder
    parser.add_argument("--folder", default="")  # where its copies go
    parser.add_argument("--stage", default="none")
    parser.add_argument("--alone", action="store_true")  # who started this starts it again, with all machines: JobSet
    given, words = parser.parse_args(own), arguments[len(own) + 1 :]
    if given.verb == "session":
        return _run_session(given, words)
    _answer({"check": _check, "start": _start, "look": _look, "stop": _stop}[given.verb](given, words))
    return EXIT_DONE


def _answer(said: dict[str, Any]) -> None:
    sys.stdout.write(f"{MARK}{json.dumps(said)}\n")


def _check(given: argparse.Namespace, words: list[str]) -> dict[str, Any]:
    """Versions, the doctor's failures, and whether copies can be written."""
    command = [sys.executable, "-m", "xlatrain", "doctor", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        findings = json.loads(done.stdout)["findings"]
    except ValueError:
        findings = [{"check": "doctor", "status": "failed", "text": done.stderr.strip()[-2000:], "cure": ""}]
    failed = [f for f in findings if f["status"] == "failed"]
    faults = _folder_faults(given.folder) if given.folder else []
    failed += [{"check": fault.key, "text": fault.problem, "cure": fault.cure} for fault in faults]
    return {"host": socket.gethostname(), "versions": versions(), "failed": failed}


def _folder_faults(folder: str) -> list:
    if "://" not in folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    return store_faults("launch.folder", folder if "://" in folder else f"file://{folder}")


def _start(given: argparse.Namespace, words: list[str]) -> dict[str, Any]:
    """Start a try, unless it has been: in a session of its own, which no connection takes with it."""
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = _session()
        if before and (before.number == given.number or before.state == "running"):
            return _look(given, words)
        passed = [f"--try={given.number}", f"--run={given.run}", f"--folder={given.folder}", f"--stage={given.stage}"]
        command = [sys.executable, "-m", "xlatrain.launching.on_worker", "session", *passed, "--", *words]
        with LOG.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        _write(Session(given.number, process.pid))
    return _look(given, words)


def _look(given: argparse.Namespace, words: list[str]) -> dict[str, Any]:
    session, folder = _session(), Path(given.run)
    if session is None:
        return {"state": "none"}
    processes = [p for place in (folder, Path()) for p in look_at(place, time.time()).processes]
    sick = [f"{p.host}:{p.pid} is {p.verdict}, {p.doing}" for p in processes if p.verdict != "ok"]
    return {
        "try": session.number,
        "state": session.state,
        "code": session.code,
        "asked": _ASKED.exists() and _ASKED.read_text() == str(session.number),
        "step": max(last_step(folder / FOLDER), last_step(Path(FOLDER))),
        "sick": sick if session.state == "running" else [],
        "summary": _summary(folder) if session.state == "ended" else {},
        "said": _last_words() if session.state != "running" and session.code != EXIT_DONE else "",
    }


def _stop(given: argparse.Namespace, words: list[str]) -> dict[str, Any]:
    session = _session()
    if session and session.state == "running":
        _ASKED.write_text(str(session.number))
        os.kill(session.pid, signal.SIGTERM)
    return _look(given, words)


def _run_session(given: argparse.Namespace, words: list[str]) -> int:
    """Supervise the run to its end, copy what it writes, and write down its exit code."""
    folder, child, stopped = Path(given.run), None, []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        if child is not None:
            child.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    keeper = Keeper(folder, f"{given.folder.rstrip('/')}/{folder.name}") if given.folder else None
    began = time.strftime("%Y%m%d-%H%M%S", time.gmtime(given.number))
    log_name = f"{began}-{_worker()}.log"
    if keeper:
        keeper.bring_back()
    staged = []
    with contextlib.suppress(ConfigError):  # the run says it better
        staged = stage_words(compose_config(words)[0], given.stage, Path.cwd().name, Path.cwd())
    supervise = [] if given.alone else ["supervise", "--"]
    # Beside the folder of the run, which not every machine has.
    environment = {**os.environ, ELSEWHERE: str(Path(FOLDER).absolute())}
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
    with _LOCK.open("w") as lock:  # not before who started this has written down that it runs
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write(Session(given.number, os.getpid(), code))
    return code


def _worker() -> str:
    """This machine among those of its slice, as its log is called."""
    number = os.environ.get("TPU_WORKER_ID")
    return f"worker-{number}" if number else socket.gethostname()


def _session() -> Session | None:
    try:
        return Session(**json.loads(_SESSION.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(session: Session) -> None:
    write_json(_SESSION, asdict(session))


def _summary(folder: Path) -> dict[str, Any]:
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return {}
    return {key: summary[key] for key in _SUMMARY if key in summary}


def _last_words(most: int = 2000) -> str:
    try:
        return LOG.read_bytes()[-most:].decode(errors="replace").strip()
    except OSError:
        return ""


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_FAILED)
