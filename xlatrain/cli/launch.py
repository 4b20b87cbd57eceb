"""`xlatrain launch VERB`: a run on machines of Google Cloud, from a request for them to their end."""

from __future__ import annotations

import contextlib
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from xlatrain.cli.manifest import print_manifest
from xlatrain.cli.verbs import take_flags
from xlatrain.config.compose import compose_config
from xlatrain.config.override import given_keys
from xlatrain.config.schema import Config
from xlatrain.console import make_console, say
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, ConfigError, Fault
from xlatrain.launching.answer import ACTIVE, ENDED, GONE, UNKNOWN
from xlatrain.launching.faults import SCRIPT, launch_faults, option_faults, place_faults
from xlatrain.launching.ledger import FILE, Ledger, held, open_ledger, overrides_of
from xlatrain.launching.pod import Pod, Run
from xlatrain.launching.script import Script, train_words, words_for
from xlatrain.launching.slice import flags_of, slice_of
from xlatrain.launching.until_done import Hangup, Limits, UntilDone
from xlatrain.launching.workers import slow
from xlatrain.signals import handled
from xlatrain.version import VERSION

_UNTIL_DONE = "--until-done"
VERBS = ("create", "setup", "run", "status", "logs", "ssh", "stop", "delete", "manifest")
_WHOLE = ("create", "setup", "run", _UNTIL_DONE)  # verbs that need to know the run


def launch(arguments: Sequence[str]) -> int:
    """`xlatrain launch [VERB] [--until-done] [--dry-run] ... [overrides]`. Returns the exit code. Raises ConfigError
    before gcloud is called."""
    flags, others = take_flags("launch", arguments)
    verb = others.pop(0) if others and others[0] in VERBS else _UNTIL_DONE if _UNTIL_DONE in flags else ""
    if not verb or (_UNTIL_DONE in flags and verb != _UNTIL_DONE):
        cure = f"write xlatrain launch {_UNTIL_DONE} ..., or one of {', '.join(VERBS)}"
        raise ConfigError(
            Fault("launch", "says not what is to be done" if not verb else f"{verb} ends by itself", cure)
        )
    if verb == "manifest":
        return print_manifest(others)
    config, overrides = _composed(others, verb)
    path = Path(config.run.root) / config.run.name / FILE
    if "--dry-run" in flags:
        return _Command(config, overrides, flags, Ledger(path)).show(verb)
    if not config.launch.stand_in and not shutil.which("gcloud"):
        raise ConfigError(
            Fault("launch", "there is no gcloud", "install Google Cloud's SDK: https://cloud.google.com/sdk")
        )
    begins = verb in _WHOLE
    with held(path, begins) as free:
        ledger = open_ledger(path, overrides if begins else None)
        ledger.kept &= free
        return getattr(_Command(config, overrides, flags, ledger), verb.strip("-").replace("-", "_"))()


def _composed(overrides: list[str], verb: str) -> tuple[Config, list[str]]:
    """The configuration, checked as far as can be from here, and its overrides; those of the command that launched the
    run first, where it is named alone."""
    config, _ = compose_config(overrides)
    name, given = config.launch.name or config.run.name, given_keys(overrides)
    if name and "cluster" not in given and "launch.zone" not in given:
        before = overrides_of(Path(config.run.root) / (config.run.name or name) / FILE)
        overrides = [*(word for word in before if word not in overrides), *overrides]
        config, _ = compose_config(overrides)
    faults = place_faults(config)
    if verb in _WHOLE:
        faults = option_faults(config)
        faults += launch_faults(config, overrides, verb == _UNTIL_DONE)
    if faults:
        raise ConfigError(*faults)
    return replace(config, run=replace(config.run, name=config.run.name or name)), overrides


class _Command:
    def __init__(self, config: Config, overrides: list[str], flags: dict[str, str], ledger: Ledger):
        self._config, self._flags = config, flags
        launch = config.launch
        run = Run(str(ledger.path.parent), launch.folder, launch.stage, train_words(config, overrides))
        wheel = f"dist/xlatrain-{VERSION}-py3-none-any.whl" if launch.python is None else None
        script = Script(flags_of(config, wheel), launch.stand_in)
        self._pod = Pod(slice_of(config), script, ledger, launch.poll, launch.max_wait, run=run)
        limits = Limits(launch.max_usd, launch.max_hours, launch.max_tries, launch.retry)
        self._loop = UntilDone(self._pod, limits, _ask if sys.stdin.isatty() else None)

    def until_done(self) -> int:
        with tempfile.TemporaryDirectory(prefix="xlatrain-wheel-") as folder, _ends():
            self._build(Path(folder))
            return self._loop.run()

    def create(self) -> int:
        with _ends():
            return self._loop.create()

    def setup(self) -> int:
        with tempfile.TemporaryDirectory(prefix="xlatrain-wheel-") as folder, _ends():
            self._build(Path(folder))
            return self._loop.guarded(self._pod.set_up)

    def run(self) -> int:
        with _ends():
            return self._loop.run_once()

    def status(self) -> int:
        state = self._pod.state()
        sick = state.name == ACTIVE and self._print_workers(self._pod.look())
        if state.name == UNKNOWN:
            self._pod.say(f"gcloud does not say what there is: {state.said}")
        self._pod.say_what_exists()
        return EXIT_FAILED if sick or state.name in (UNKNOWN, *ENDED) else EXIT_DONE

    def _print_workers(self, said: dict[int, dict]) -> bool:
        """A line for each machine, also for one that says nothing. Returns whether something is wrong."""
        console, wrong, late = make_console(), False, slow(said)
        for number in range(self._pod.wanted.hosts):
            worker = said.get(number)
            if worker is None:
                text, wrong = "no answer", True
            else:
                code = f" with exit code {worker['code']}" if worker.get("code") is not None else ""
                text = f"{worker['state']}{code}" + (f", step {worker['step']:,}" if worker.get("step") else "")
                sick = [*worker.get("sick", ()), *([late[number]] if number in late else [])]
                text += "".join(f"; {what}" for what in sick)
                wrong |= bool(sick) or worker["state"] == "died" or worker.get("code") not in (None, 0, 75)
            console.print(f"worker {number}: {text}", soft_wrap=True)
        return wrong

    def logs(self) -> int:
        follow = ["--follow"] if "--follow" in self._flags else []
        return self._pod.script.run_here("logs", f"--worker={self._flags.get('--worker', 'all')}", *follow)

    def ssh(self) -> int:
        return self._pod.script.run_here("ssh", f"--worker={self._flags.get('--worker', '0')}")

    def stop(self) -> int:
        with _ends():
            said = self._pod.finish("stop")
            for number, worker in sorted(said.items()):
                self._pod.say(f"worker {number}: {worker['state']}, exit code {worker.get('code')}")
            self._pod.say_what_exists()
        return EXIT_DONE if said else EXIT_FAILED

    def delete(self) -> int:
        gone = self._pod.state().name == GONE or self._pod.delete(patient=False)
        self._pod.say_what_exists()
        return EXIT_DONE if gone else EXIT_FAILED

    def show(self, verb: str) -> int:
        """The commands that a verb would give, in their order where all goes well."""
        script, launch, run = self._pod.script, self._config.launch, self._pod.run
        words = words_for(run.folder, run.kept, run.stage, 1, run.overrides)
        parts = {
            "create": [("create", ()), ("state", ())],
            "setup": [("setup", ()), ("check", words)],
            "run": [("start", words), ("look", words[1:2])],
            "status": [("state", ()), ("look", words[1:2])],
            "stop": [("stop", words[1:2])],
            "delete": [("delete", ())],
            "logs": [("logs", ())],
            "ssh": [("ssh", ())],
        }
        whole = ("create", "setup", "run", "delete")
        worker = [f"--worker={self._flags['--worker']}"] if "--worker" in self._flags else []
        more = {"logs": [*worker, *["--follow"] * ("--follow" in self._flags)], "ssh": worker}
        if verb in ("setup", _UNTIL_DONE) and launch.python is None:
            make_console().print(shlex.join(_wheel_command("dist")), soft_wrap=True)
        for part in whole if verb == _UNTIL_DONE else (verb,):
            for name, asked in parts[part]:
                for line in script.shown(name, *more.get(name, ()), words=asked):
                    make_console().print(line, soft_wrap=True)
        return EXIT_DONE

    def _build(self, folder: Path) -> None:
        """The wheel of this checkout, once for all machines that there will be."""
        if self._config.launch.python is not None:
            return
        self._pod.say("building the wheel of this checkout")
        done = subprocess.run(_wheel_command(str(folder)), capture_output=True, text=True)
        wheels = list(folder.glob("xlatrain-*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
            raise ConfigError(Fault("launch", f"the wheel cannot be built: {last}", "pip install hatchling"))
        self._pod.script.flags = flags_of(self._config, str(wheels[0]))


def _wheel_command(folder: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--quiet",
        "--wheel-dir",
        folder,
        str(SCRIPT.parent.parent),
    ]


def _ask(question: str, seconds: float = 600.0) -> bool:
    """Whether the answer is yes. Machines cost while it is waited for: none within so many seconds is no."""
    say("")
    sys.stdout.write(question)
    sys.stdout.flush()
    if not select.select([sys.stdin], [], [], seconds)[0]:
        say(f"no answer in {seconds:g} s")
        return False
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _ends() -> contextlib.AbstractContextManager[None]:
    """Within, SIGTERM and the end of the terminal are as Ctrl-C is, with nobody to ask; but for those that this process
    was started to ignore, as nohup does."""
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    return handled(numbers, _hang_up)


def _hang_up(number: int, frame: FrameType | None) -> None:
    raise Hangup
