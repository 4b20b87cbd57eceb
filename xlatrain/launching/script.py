"""launch/tpu_vm.sh, called: each verb for a slice, and what came of it."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from xlatrain.config.override import given_keys
from xlatrain.config.schema import Config
from xlatrain.files import user_cache
from xlatrain.launching.answer import Answer, State, state_of
from xlatrain.launching.faults import SCRIPT

STAND_IN = SCRIPT.parent / "stand_in"
# Seconds after which gcloud is ended: it tries for minutes where a machine does not answer, and may hang.
_LONGEST = {"setup": 1800.0, "create": 600.0, "delete": 1800.0}
_PATIENCE = 300.0
_SHORTEST = 20.0  # however little is left of a limit
# What is not left half done when Ctrl-C is pressed: whether there is a machine would not be known.
_WHOLE = ("create", "delete")


class Script:
    """flags: of the slice. A command runs in a session of its own, so that Ctrl-C reaches nobody but who waits for it.

    stand_in: launch/stand_in/gcloud takes the place of gcloud. left: seconds till a limit, which no command but those
    that end machines outlasts.
    """

    def __init__(self, flags: Sequence[str], stand_in: bool = False):
        self.flags = list(flags)
        self.left: Callable[[], float] = lambda: math.inf
        self._environment = with_stand_in(os.environ) if stand_in else dict(os.environ)

    def create(self) -> Answer:
        return self.call("create")

    def state(self) -> State:
        return state_of(self.call("state"))

    def delete(self) -> Answer:
        return self.call("delete")

    def setup(self) -> Answer:
        return self.call("setup", apart=True)

    def ask(self, verb: str, words: Sequence[str], worker: str = "all") -> Answer:
        """Of on_worker, on all machines or one: check, start, look, stop."""
        return self.call(verb, f"--worker={worker}", words=words, apart=True)

    def shown(self, verb: str, *more: str, words: Sequence[str] = ()) -> list[str]:
        """The commands of a verb, as they can be copied into a shell."""
        command = self._command(verb, [*more, "--dry-run"], words)
        done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True)
        return done.stdout.splitlines()

    def call(self, verb: str, *more: str, words: Sequence[str] = (), apart: bool = False) -> Answer:
        """Run a verb. apart: keep what each machine writes apart."""
        if not apart:
            return self._run(verb, self._command(verb, more, words), None)
        with tempfile.TemporaryDirectory(prefix="xlatrain-launch-") as folder:
            return self._run(verb, self._command(verb, [*more, f"--output={folder}"], words), folder)

    def _command(self, verb: str, more: Sequence[str], words: Sequence[str]) -> list[str]:
        return ["bash", str(SCRIPT), verb, *self.flags, *more, *(["--", *words] if words else [])]

    def _run(self, verb: str, command: list[str], folder: str | None) -> Answer:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,
        )
        longest = _LONGEST.get(verb, _PATIENCE)
        if verb not in (*_WHOLE, "stop"):
            longest = max(_SHORTEST, min(longest, self.left()))
        try:
            out, err = process.communicate(timeout=longest)
        except subprocess.TimeoutExpired:
            _kill(process)
            out, err = process.communicate()
            err += f"\nERROR: no end after {longest:g} s"
        except BaseException:
            if verb in _WHOLE:
                _see_out(process, longest)
            else:
                _kill(process)
            raise
        return Answer(process.returncode, out, err, _workers(folder) if folder else {})

    def run_here(self, verb: str, *more: str) -> int:
        """Run a verb on this terminal, as ssh and logs are; returns its exit code."""
        return subprocess.run(self._command(verb, more, ()), env=self._environment).returncode


def _see_out(process: subprocess.Popen[str], longest: float) -> None:
    """Wait for its end, whoever presses Ctrl-C again meanwhile."""
    while True:
        try:
            process.communicate(timeout=longest)
            return
        except KeyboardInterrupt:
            continue
        except subprocess.TimeoutExpired:
            return _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """With all that it has started, as far as it has not ended just now."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _workers(folder: str) -> dict[int, str]:
    """What gcloud kept of each machine, in a file of its number."""
    logs = (path for path in Path(folder).glob("*.log") if path.stem.isdigit())
    return {int(path.stem): path.read_text(errors="replace") for path in logs}


def with_stand_in(variables: Mapping[str, str]) -> dict[str, str]:
    """An environment in which gcloud is the stand-in."""
    path = os.pathsep.join([str(STAND_IN), variables.get("PATH", os.defpath)])
    return {"XLATRAIN_STAND_IN": str(user_cache() / "stand-in"), **variables, "PATH": path}


def train_words(config: Config, overrides: Sequence[str]) -> list[str]:
    """The overrides of a launch as those of `xlatrain train` on a machine: the run has a name, and checkpoints that
    outlive the machine, if the launch has a place for them."""
    words = [word for word in overrides if not word.startswith("launch.")]
    given = given_keys(words)
    name, folder = config.run.name or config.launch.name, config.launch.folder
    words += [] if "run.name" in given else [f"run.name={name}"]
    return words + ([f"checkpoint.folder={folder}"] if folder and "checkpoint.folder" not in given else [])


def words_for(run: str, folder: str | None, stage: str, number: int, overrides: Sequence[str]) -> list[str]:
    """What on_worker is told of a run."""
    own = [f"--try={number}", f"--run={run}", f"--stage={stage}", *([f"--folder={folder}"] if folder else [])]
    return [*own, "--", *overrides]
