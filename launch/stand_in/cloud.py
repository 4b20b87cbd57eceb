"""A stand-in for Google Cloud: machines are folders of this computer, and what runs on them its processes.

    PATH=launch/stand_in:$PATH XLATRAIN_STAND_IN=FOLDER gcloud compute tpus queued-resources create ...

It knows the commands of launch/tpu_vm.sh, refuses each flag that launch/gcloud_flags.json does not have, writes all
calls down (calls.jsonl) and which machines there are (cloud.json). What is to happen to them says FOLDER/script.json,
a list with an entry for each request, the last one for all further ones:

    states       of the queued resource, one for each time that it is asked for; the last one stays
    hosts        machines of the slice; else the number at the end of an accelerator type of the stand-in's own
    refuse       the request is refused, with these words
    failed       what is said of the state FAILED
    kill         {"worker": 1, "at_step": 20}: that machine is gone with all that runs on it; the slice is SUSPENDED
    unreachable  so many connections fail, after the first unreachable_from (1)
    broken       {"worker": 1, "times": 1, "says": "..."}: an installation fails there
    stays        so many requests to delete it do nothing

It shows that the scripts work together, and nothing of Google's service. Standard library only: it starts often.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FLAGS = Path(__file__).parent.parent / "gcloud_flags.json"
MARK = "XLATRAIN_STAND_IN_MACHINE"  # a variable of all that runs on a machine
_USUAL = ["CREATING", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]

Answer = tuple[int, str, str]  # exit code, standard output, standard error


@functools.cache
def _flags() -> dict[str, Any]:
    return json.loads(FLAGS.read_text())


def parse(words: list[str]) -> tuple[str, list[str], dict[str, str]]:
    """A gcloud command as its name, its positional words, and its flags; without the word gcloud. Raises ValueError for
    what the list of flags does not have."""
    known = _flags()
    name = next((n for n in known["commands"] if words[: len(n.split())] == n.split()), None)
    if name is None:
        raise ValueError(f"Invalid choice: {' '.join(words[:4])!r}")
    allowed, places, flags = {**known["everywhere"], **known["commands"][name]}, [], {}
    for word in words[len(name.split()) :]:
        if not word.startswith("--"):
            places.append(word)
            continue
        flag, has_value, value = word.partition("=")
        kind = allowed.get(flag)
        if kind is None or (kind == "bool") == bool(has_value):
            raise ValueError(f"unrecognized arguments: {word}")
        if isinstance(kind, list) and value not in kind:
            raise ValueError(f"argument {flag}: Invalid choice: {value!r}")
        flags[flag] = value
    return name.rpartition("tpus ")[2], places, flags


class Cloud:
    """folder: where it is kept. machine: what runs a command on a machine, given its name, its number, its folder and
    the command; returns the exit code and what was written."""

    def __init__(self, folder: Path, machine: Callable[[str, int, Path, str], tuple[int, str]] | None = None):
        self.folder, self._machine = folder, machine or run_on_machine
        folder.mkdir(parents=True, exist_ok=True)

    def call(self, words: list[str]) -> Answer:
        """Do a command, without the word gcloud."""
        with (self.folder / "calls.jsonl").open("a") as calls:
            calls.write(json.dumps(words) + "\n")
        try:
            name, places, flags = parse(words)
        except ValueError as error:
            return 2, "", f"ERROR: (gcloud) {error}\n"
        act = {
            "queued-resources create": self._create,
            "queued-resources describe": self._describe,
            "queued-resources delete": self._delete,
            "queued-resources list": self._list,
            "tpu-vm ssh": self._ssh,
            "tpu-vm scp": self._copy,
        }[name]
        return act(places, flags)

    @contextlib.contextmanager
    def state(self) -> Iterator[dict[str, Any]]:
        """What there is, to be looked at and changed."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = self.folder / "cloud.json"
            state = json.loads(path.read_text()) if path.exists() else {"requests": 0, "machines": {}, "past": []}
            yield state
            draft = path.with_suffix(".part")
            draft.write_text(json.dumps(state, indent=1))
            draft.replace(path)

    def _script(self, request: int) -> dict[str, Any]:
        path = self.folder / "script.json"
        entries = json.loads(path.read_text()) if path.exists() else [{}]
        return entries[min(request, len(entries) - 1)]

    def _create(self, places: list[str], flags: dict[str, str]) -> Answer:
        with self.state() as state:
            (name,), script = places, self._script(state["requests"])
            state["requests"] += 1
            if name in state["machines"]:
                return _error("create", f"ALREADY_EXISTS: {name}")
            if "refuse" in script:
                return _error("create", script["refuse"])
            kind = flags.get("--accelerator-type", flags.get("--topology", ""))
            hosts = script.get("hosts") or int(re.search(r"stand-in-(\d+)$", kind)[1] if "stand-in" in kind else 2)
            states = list(script.get("states", _USUAL))
            machine = {"kind": kind, "spot": "--spot" in flags, "hosts": hosts, "states": states, "script": script}
            state["machines"][name] = {**machine, "since": time.time()}
            for number in range(hosts):
                self._home(name, number).mkdir(parents=True)
        return 0, "", f"Create request issued for: [{name}]\n"

    def _describe(self, places: list[str], flags: dict[str, str]) -> Answer:
        with self.state() as state:
            if (machine := state["machines"].get(places[0])) is None:
                return _missing(places[0])
            self._kill(places[0], machine)
            found = {"state": machine["states"][0]}
            if len(machine["states"]) > 1:
                machine["states"].pop(0)
            if found["state"] in ("SUSPENDING", "SUSPENDED", "FAILED"):
                self._end_processes(places[0], machine)
            if found["state"] == "FAILED" and "failed" in machine["script"]:
                found["failedData"] = {"error": {"message": machine["script"]["failed"]}}
            return 0, json.dumps({"state": found}), ""

    def _list(self, places: list[str], flags: dict[str, str]) -> Answer:
        with self.state() as state:
            rows = [{"name": n, "state": {"state": m["states"][0]}} for n, m in state["machines"].items()]
            return 0, json.dumps(rows), ""

    def _delete(self, places: list[str], flags: dict[str, str]) -> Answer:
        with self.state() as state:
            (name,) = places
            if (machine := state["machines"].get(name)) is None:
                return _missing(name)
            if machine["script"].get("stays", 0) > 0:
                machine["script"]["stays"] -= 1
                return _error("delete", "UNAVAILABLE: try again")
            self._end_processes(name, machine)
            ended = state["machines"].pop(name)
            state["past"].append({"name": name, "since": ended["since"], "until": time.time()})
            folder = self._home(name, 0).parent
            folder.rename(folder.with_name(f"{name}.{len(state['past'])}"))
        return 0, "", f"Delete request issued for: [{name}]\n"

    def _ssh(self, places: list[str], flags: dict[str, str]) -> Answer:
        (name,), command = places, flags.get("--command")
        if error := self._unreachable(name):
            return error
        numbers = self._numbers(name, flags)
        if command is None:
            return 0, f"a stand-in opens no shell; the machine is {self._home(name, numbers[0])}\n", ""
        answers: dict[int, tuple[int, str]] = {}

        def run(number: int) -> None:
            broken = self._break(name, number, command)
            answers[number] = broken or self._machine(name, number, self._home(name, number), command)

        threads = [threading.Thread(target=run, args=(n,)) for n in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        failed = [n for n in numbers if answers[n][0]]
        said = "".join(f"##### Command execution on worker {n} failed with exit status {answers[n][0]}. Continuing.\n"
                       for n in failed)  # fmt: skip
        out = ""
        for n in numbers:
            if "--output-directory" in flags:
                (Path(flags["--output-directory"]) / f"{n}.log").write_text(answers[n][1])
            else:
                out += answers[n][1]
        return (answers[failed[0]][0] if failed else 0), out, said

    def _copy(self, places: list[str], flags: dict[str, str]) -> Answer:
        source, target = places
        name, _, path = target.partition(":")
        if error := self._unreachable(name):
            return error
        for number in self._numbers(name, flags):
            shutil.copy(source, self._home(name, number) / path)
        return 0, "", ""

    def _numbers(self, name: str, flags: dict[str, str]) -> list[int]:
        with self.state() as state:
            worker = flags.get("--worker", "0")
            return list(range(state["machines"][name]["hosts"])) if worker == "all" else [int(worker)]

    def _home(self, name: str, number: int) -> Path:
        return self.folder / "machines" / name / f"worker-{number}"

    def _unreachable(self, name: str) -> Answer | None:
        with self.state() as state:
            machine = state["machines"].get(name)
            if machine is None:
                return _missing(name)
            if machine["states"][0] != "ACTIVE":
                return _error("ssh", f"this TPU is in state {machine['states'][0]}, in which it cannot be reached")
            machine["connections"] = machine.get("connections", 0) + 1
            first = machine["script"].get("unreachable_from", 1)
            if first < machine["connections"] <= first + machine["script"].get("unreachable", 0):
                return 255, "", _error("tpu-vm.ssh", "[/usr/bin/ssh] exited with return code [255].")[2]
        return None

    def _break(self, name: str, number: int, command: str) -> tuple[int, str] | None:
        with self.state() as state:
            broken = state["machines"][name]["script"].get("broken", {})
            if broken.get("worker") == number and broken.get("times", 0) > 0 and "-m pip install" in command:
                broken["times"] -= 1
                return 1, f"{broken['says']}\n"
        return None

    def _kill(self, name: str, machine: dict[str, Any]) -> None:
        """What the script says is to happen at a step, when it has come."""
        kill = machine["script"].get("kill")
        if not kill:
            return
        beats = self._home(name, 0).parent.glob("worker-*/*/*/*/heartbeats/*.json")
        if _furthest(beats) >= kill["at_step"]:
            del machine["script"]["kill"]
            end_processes(f"{self._home(name, kill['worker'])}")
            machine["states"] = ["SUSPENDING", "SUSPENDED"]

    def _end_processes(self, name: str, machine: dict[str, Any]) -> None:
        for number in range(machine["hosts"]):
            end_processes(f"{self._home(name, number)}")


def run_on_machine(name: str, number: int, home: Path, command: str) -> tuple[int, str]:
    """As a login on a TPU VM runs it, with what it knows of its place."""
    if not home.exists():
        return 255, "no such machine any more"
    hosts = len(list(home.parent.glob("worker-*")))
    place = {"TPU_WORKER_ID": str(number), "TPU_WORKER_HOSTNAMES": ",".join(["127.0.0.1"] * hosts), MARK: str(home)}
    variables = {**os.environ, **place}
    done = subprocess.run(
        ["bash", "-c", command], cwd=home, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def end_processes(mark: str) -> None:
    """Kill all that runs on a machine."""
    wanted = f"{MARK}={mark}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)


def _furthest(beats: Iterator[Path]) -> int:
    furthest = -1
    for path in beats:
        with contextlib.suppress(OSError, ValueError, KeyError):
            replicas = json.loads(path.read_text())["replicas"].values()
            furthest = max([furthest, *(place["step"] for place in replicas)])
    return furthest


def _missing(name: str) -> Answer:
    return 1, "", f"ERROR: (gcloud.compute.tpus) NOT_FOUND: Resource '{name}' was not found\n"


def _error(verb: str, text: str) -> Answer:
    return 1, "", f"ERROR: (gcloud.compute.tpus.{verb}) {text}\n"


def main() -> int:
    folder = os.environ.get("XLATRAIN_STAND_IN")
    if not folder:
        sys.stderr.write("This gcloud is a stand-in: set XLATRAIN_STAND_IN to the folder of its machines.\n")
        return 2
    code, out, err = Cloud(Path(folder)).call(sys.argv[1:])
    sys.stdout.write(out)
    sys.stderr.write(err)
    return code
