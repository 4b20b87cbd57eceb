"""A slice that is played in this process: the commands are those that launch/tpu_vm.sh prints, the cloud is the
stand-in's, time is a number, and what a run does on the machines is a list."""

import functools
import json
import shlex
import subprocess

from launch.stand_in.cloud import Cloud
from xlatrain.config.compose import compose_config
from xlatrain.launching.answer import MARK, Answer
from xlatrain.launching.ledger import FILE, open_ledger
from xlatrain.launching.pod import Pod, Run
from xlatrain.launching.script import Script, _workers
from xlatrain.launching.slice import flags_of, slice_of
from xlatrain.launching.until_done import Limits, UntilDone
from xlatrain.version import VERSION

COMMAND = ["cluster=tpu_v4_16", "launch.name=b2", "launch.zone=us-central2-b", "launch.capacity=spot"]
DONE = {"state": "ended", "code": 0, "summary": {"status": "done", "top1": 0.8429, "steps": 224}}
VERSIONS = {"xlatrain": VERSION, "torch": "2.9.1"}
WHEEL = "dist/x.whl"
CREATE, DELETE = "queued-resources create", "queued-resources delete"


class Time:
    """A clock on which waiting takes no time. at: a second at which something is raised, as Ctrl-C is."""

    def __init__(self):
        self.seconds, self.at, self.raised = 1_800_000_000.0, None, KeyboardInterrupt

    def now(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds
        if self.at is not None and self.seconds >= self.at:
            self.at = None
            raise self.raised


class Play:
    """script: of the stand-in. looks: what a run says from look to look, of each request a list, the last entry on and
    on; a dictionary of all workers, or a list with one for each. checks: by worker, what differs from all being well.
    presses: verbs of the machines at which Ctrl-C is pressed, in their order."""

    def __init__(self, folder, script=(), looks=(), checks=None, seconds=60.0, limits=None, keep=None, presses=()):
        self.cloud = Cloud(folder / "cloud", self._on_machine)
        (folder / "cloud/script.json").write_text(json.dumps(list(script) or [{}]))
        self.looks = [list(of_request) for of_request in looks] or [[DONE]]
        self.wheel = folder / "x.whl"
        self.wheel.write_bytes(b"")
        self.checks, self.presses, self.time, self.said, self.asked = checks or {}, [*presses], Time(), [], []
        config = composed()
        run = Run("runs/b2", "gs://mine/runs", "auto", ["cluster=tpu_v4_16", "run.name=b2"])
        self.ledger_path = folder / "runs/b2" / FILE
        script = PlayedScript(flags_of(config, WHEEL), self)
        ledger = open_ledger(self.ledger_path, COMMAND)
        self.pod = Pod(slice_of(config), script, ledger, seconds, 24.0, self.time, self.said.append, run=run)
        limits = limits or Limits(None, 24.0, 20, 60.0)
        self.loop = UntilDone(self.pod, limits, None if keep is None else self._keep(keep))
        self._looked: dict[tuple[int, int], int] = {}
        self._begun: set[int] = set()
        self._stopped = False

    def run(self):
        return self.loop.run()

    @property
    def machines(self):
        """Those that exist, by the stand-in's ledger."""
        with self.cloud.state() as state:
            return list(state["machines"])

    @property
    def bill(self):
        return json.loads(self.ledger_path.read_text())

    @property
    def text(self):
        return "\n".join(line.partition("] ")[2] or line for line in self.said)

    def calls(self, kind):
        lines = (self.cloud.folder / "calls.jsonl").read_text().splitlines()
        return sum(kind in " ".join(json.loads(line)) for line in lines)

    def _keep(self, answer):
        def ask(question):
            self.asked.append(question)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return ask

    def _on_machine(self, name, number, home, command):
        verb = command.partition("on_worker ")[2].partition(" ")[0]
        if not verb:
            (home / f"xlatrain-{name}").mkdir(exist_ok=True)
            return 0, ""
        if verb == "check":
            said = {"versions": VERSIONS, "failed": [], **self.checks.get(number, {})}
        else:
            said = self._of_run(number, verb)
        return 0, f"Warning: of ssh\n{MARK}{json.dumps(said)}\n"

    def _of_run(self, number, verb):
        with self.cloud.state() as state:
            request = state["requests"]
        if verb == "start":
            self._begun.add(request)
            self._stopped = False
        if request not in self._begun:
            return {"state": "none"}
        if verb == "stop":
            self._stopped = True
        looks = self.looks[min(request, len(self.looks)) - 1]
        place = self._looked.get((request, number), 0)
        if verb == "look":
            self._looked[request, number] = place + 1
        said = looks[min(place, len(looks) - 1)] if verb != "start" else {}
        said = said[number] if isinstance(said, list) else said
        said = {"state": "running", "step": 0, "sick": [], "said": "", **said}
        stops = self._stopped and said["state"] == "running"
        return {"state": "ended", "code": 75, "said": "", "asked": True} if stops else said


class PlayedScript(Script):
    def __init__(self, flags, play):
        super().__init__(flags)
        self._play = play

    def call(self, verb, *more, words=(), apart=False):
        if [verb] == self._play.presses[:1]:
            self._play.presses.pop(0)
            if verb in ("create", "delete"):  # which are done all the same
                self.call(verb, *more, words=words, apart=apart)
            raise KeyboardInterrupt
        folder = self._play.cloud.folder / f"output-{verb}"
        folder.mkdir(exist_ok=True)
        for path in folder.glob("*"):
            path.unlink()
        output = ["--output=OUTPUT"] if apart else []
        number = next((word for word in words if word.startswith("--try=")), "")
        words = ["--try=1" if word == number else word for word in words]
        out, err = "", ""
        for name, *arguments in printed(tuple(self._command(verb, [*more, *output, "--dry-run"], words))):
            assert name == "gcloud"
            own = {"--output-directory=OUTPUT": f"--output-directory={folder}"}
            arguments = [str(self._play.wheel) if word.endswith(".whl") and ":" not in word else own.get(word, word)
                         for word in arguments]  # fmt: skip
            code, more_out, more_err = self._play.cloud.call(arguments)
            out, err = out + more_out, err + more_err
            if code:
                return Answer(code, out, err, _workers(str(folder)))
        return Answer(0, out, err, _workers(str(folder)))


    def run_here(self, verb, *more):
        return self.call(verb, *more).code


def on_stage(folder, monkeypatch, exists, looks=()):
    """Have `xlatrain launch` play in this process. exists: the command's words, where the machine that they name is
    there. looks: as of Play, of a run that is on it."""
    play = Play(folder, [{"states": ["ACTIVE"], "hosts": 4}], looks)
    play._begun = {1} if looks else set()
    monkeypatch.setattr("xlatrain.cli.launch.Script", lambda flags, stand_in: PlayedScript(flags, play))
    monkeypatch.setattr("xlatrain.cli.launch.shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("xlatrain.cli.launch._wheel_command", lambda folder: ["touch", f"{folder}/xlatrain-0.whl"])
    for name in ("now", "sleep"):
        monkeypatch.setattr(f"xlatrain.launching.machines.Clock.{name}", staticmethod(getattr(play.time, name)))
    if exists:
        (name,) = {word.partition("=")[2] for word in exists if word.startswith("launch.name=")}
        PlayedScript([f"--name={name}", "--zone=z", "--runtime-version=r", "--accelerator-type=v4-16"], play).create()
        play.cloud.call(["compute", "tpus", "queued-resources", "describe", name])
    return play


@functools.cache
def composed():
    return compose_config([*COMMAND, "run.name=b2"])[0]


@functools.cache
def printed(command):
    """The commands that the script prints, each as its words: asked for once, however often they are given."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [shlex.split(line) for line in done.stdout.splitlines()]
