"""What `xlatrain launch` runs on each machine: `python -m xlatrain.launching.on_worker VERB ...`, in a folder of the
machine's own. It answers by a line of JSON, and a second time as the first: connections break, and gcloud then says
everything again."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from xlatrain.engine.health import look_at
from xlatrain.engine.run_folder import read_summary
from xlatrain.errors import EXIT_DONE
from xlatrain.launching.answer import MARK
from xlatrain.launching.session import LOG, Session, locked, read_session, write_session
from xlatrain.xla.heartbeat import FOLDER, last_step

_ASKED = Path(".stop")
_SUMMARY = ("status", "top1", "top5", "loss", "steps", "wall_seconds", "images_per_second", "sha256")


def main(arguments: list[str]) -> int:
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    parser = argparse.ArgumentParser(prog="xlatrain.launching.on_worker")
    parser.add_argument("verb", choices=("check", "start", "session", "look", "stop"))
    parser.add_argument("--try", dest="number", type=int, default=0)
    parser.add_argument("--run", default="")  # the run's folder
    parser.add_argument("--folder", default="")  # where its copies go
    parser.add_argument("--stage", default="none")
    parser.add_argument("--alone", action="store_true")  # no supervision
    given, words = parser.parse_args(own), arguments[len(own) + 1 :]
    if given.verb == "session":
        from xlatrain.launching.run_session import run_session

        return run_session(given.number, given.run, given.folder, given.stage, words, supervised=not given.alone)
    if given.verb == "check":
        from xlatrain.launching.check_machine import check_machine

        said = check_machine(given.folder, words)
    else:
        said = {"start": _start, "look": _look, "stop": _stop}[given.verb](given, words)
    sys.stdout.write(f"{MARK}{json.dumps(said)}\n")
    return EXIT_DONE


def _start(given: argparse.Namespace, words: list[str]) -> dict[str, Any]:
    """Start a try, unless it has been: in a session of its own, which no connection takes with it."""
    with locked():
        before = read_session()
        if before and (before.number == given.number or before.state == "running"):
            return _look(given, words)
        passed = [f"--try={given.number}", f"--run={given.run}", f"--folder={given.folder}", f"--stage={given.stage}"]
        command = [sys.executable, "-m", "xlatrain.launching.on_worker", "session", *passed, "--", *words]
        with LOG.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        write_session(Session(given.number, process.pid))
    return _look(given, words)


def _look(given: argparse.Namespace, words: list[str]) -> dict[str, Any]:
    session, folder = read_session(), Path(given.run)
    if session is None:
        return {"state": "none"}
    processes = look_at(folder, time.time()).processes
    # Of a machine without the run's folder; whether one that is gone has ended well only its exit code says.
    processes += [p for p in look_at(Path(), time.time()).processes if p.verdict != "dead"]
    sick = [f"{p.host}:{p.pid} is {p.verdict}, {p.doing}" for p in processes if p.verdict != "ok"]
    return {
        "try": session.number,
        "state": session.state,
        "code": session.code,
        "asked": _ASKED.exists() and _ASKED.read_text() == str(session.number),
        "step": max(last_step(folder / FOLDER), last_step(Path(FOLDER))),
        "idle": min((p.idle for p in processes), default=0.0),  # seconds that nobody here has come further
        "sick": sick if session.state == "running" else [],
        "summary": _summary(folder) if session.state == "ended" else {},
        "said": _last_words() if session.state != "running" and session.code != EXIT_DONE else "",
    }


def _stop(given: argparse.Namespace, words: list[str]) -> dict[str, Any]:
    session = read_session()
    if session and session.state == "running":
        _ASKED.write_text(str(session.number))
        os.kill(session.pid, signal.SIGTERM)
    return _look(given, words)


def _summary(folder: Path) -> dict[str, Any]:
    summary = read_summary(folder)
    return {key: summary[key] for key in _SUMMARY if key in summary}


def _last_words(most: int = 2000) -> str:
    try:
        return LOG.read_bytes()[-most:].decode(errors="replace").strip()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
