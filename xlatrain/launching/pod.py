"""A run on machines of Google Cloud: set up, started, followed, stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from xlatrain.errors import EXIT_CONFIG, EXIT_FAILED
from xlatrain.launching.answer import ACTIVE, UNKNOWN, Answer
from xlatrain.launching.machines import EndedError, LostError, Machines
from xlatrain.launching.script import words_for
from xlatrain.launching.workers import Progress, failures, first_ended, other_versions, who
from xlatrain.words import counted, ranges

_UNREACHED = 10  # looks in a row that no machine answers, after which they count as lost
_ASKS = 3  # of what all workers have to answer
_STOP_SECONDS = 300.0  # for a run to save itself


@dataclass(frozen=True)
class Run:
    """What is to be run. folder: of the run, as each machine has it; kept: where copies go; overrides: of train."""

    folder: str
    kept: str | None
    stage: str
    overrides: list[str]


@dataclass(eq=False)
class Pod(Machines):
    """Machines, and the run on them."""

    run: Run = field(kw_only=True)
    _number: int = field(default=0, init=False)  # of the try

    def runs(self) -> bool:
        """Whether the run goes on, on all of them, as somebody has started it before. On some of them it is ended."""
        said = self.look()
        running = [worker for worker in said.values() if worker["state"] == "running"]
        if len(running) == self.wanted.hosts:
            self.say(f"the run goes on already, in step {max(worker['step'] for worker in running):,}")
            return True
        if running:
            self.say(f"the run goes on on {len(running)} of {self.wanted.hosts} workers only: it is ended there first")
            self.finish("stop")
        return False

    def set_up(self, watch: Callable[[], None] = lambda: None) -> None:
        """Install, compare versions, look at each machine. watch: called before it is tried again, may raise. Raises
        LostError, EndedError."""
        for attempt in (1, 2):
            answer = self.script.setup()
            if answer.code == 0:
                break
            self._still_there()
            self.say(f"setup failed: {who(answer)}" + ("; once more" if attempt == 1 else ""))
            watch()
        else:
            raise EndedError(EXIT_FAILED, f"setup failed twice: {who(answer)}")
        checked, said = self._ask_all("check")
        if not said:
            raise EndedError(EXIT_FAILED, f"machines cannot be looked at: {who(checked)}")
        if missing := sorted(set(range(self.wanted.hosts)) - set(said)):
            raise EndedError(EXIT_FAILED, f"no answer of worker {ranges(missing)}")
        if faults := [*other_versions(said), *failures(said)]:
            for fault in faults:
                self.say(fault)
            raise EndedError(EXIT_CONFIG, "the machines are not as they should be")
        of_all = ", ".join(f"{name} {number}" for name, number in said[0]["versions"].items())
        self.say(f"set up: {counted(len(said), 'worker')}, each with {of_all}")

    def start(self) -> None:
        """Start the run, on all machines. Raises LostError, EndedError."""
        self._number = int(self.clock.now())
        answer, said = self._ask_all("start")
        if answer.code and not said:
            raise EndedError(EXIT_FAILED, f"the run is not started: {who(answer)}")
        self.say(f"the run is started on {counted(self.wanted.hosts, 'worker')}")

    def follow(self, watch: Callable[[], None]) -> dict[str, Any]:
        """Wait until a worker ends, and return what it says, with its number as worker. watch: called before each wait,
        may raise. Raises LostError where the machines are, EndedError where somebody has deleted them."""
        progress, unreached, offline = Progress(2 * self.poll), 0, False
        while True:
            watch()
            self.clock.sleep(self.poll)
            if (state := self.state()).name not in (ACTIVE, UNKNOWN):
                raise self.lost(state)
            if (state.name == UNKNOWN) != offline:
                offline = not offline
                self.say(f"gcloud does not answer: {state.said}" if offline else "gcloud answers again")
            if offline:
                continue  # nothing is known of the machines: the run goes on, or will be gone on with
            if not (said := self.look()):
                unreached += 1
                if unreached == 1:
                    self.say("no worker can be reached; the run goes on without this connection")
                if unreached >= _UNREACHED:
                    raise LostError("no worker can be reached any more")
                continue
            if unreached:
                self.say("workers can be reached again")
                unreached = 0
            if ended := first_ended(said):
                return ended
            for line in progress.lines(said, self.wanted.hosts, self.clock.now()):
                self.say(line)

    def look(self) -> dict[int, dict[str, Any]]:
        """What each worker says; those that say nothing are not in it."""
        return self._ask("look")

    def finish(self, verb: str = "look", seconds: float = _STOP_SECONDS) -> dict[int, dict[str, Any]]:
        """Wait until no worker runs any more, some seconds at most, and return what they say. verb: stop asks the run
        to save itself."""
        said = self._ask(verb)
        until = self.clock.now() + seconds
        while any(worker["state"] == "running" for worker in said.values()) and self.clock.now() < until:
            self.clock.sleep(min(self.poll, 5.0))
            if self.state().name not in (ACTIVE, UNKNOWN):
                break
            said = self.look() or said
        return said

    def _ask_all(self, verb: str) -> tuple[Answer, dict[int, dict[str, Any]]]:
        """check or start, asked again where a connection breaks: a second time they do nothing more. Returns the last
        answer, and what each worker has said."""
        said: dict[int, dict[str, Any]] = {}
        for left in reversed(range(_ASKS)):
            answer = self.script.ask(verb, self._words())
            said |= answer.of_workers
            if set(range(self.wanted.hosts)) <= set(said):
                break
            self._still_there()
            if left:
                self.say(f"{verb}: {who(answer)}; once more")
                self.clock.sleep(self.poll)
        return answer, said

    def _ask(self, verb: str) -> dict[int, dict[str, Any]]:
        """look or stop."""
        return self.script.ask(verb, [f"--run={self.run.folder}"]).of_workers

    def _words(self) -> list[str]:
        return words_for(self.run.folder, self.run.kept, self.run.stage, self._number, self.run.overrides)

    def _still_there(self) -> None:
        """Raises LostError or EndedError where what failed did so since the machines are gone."""
        if (state := self.state()).name not in (ACTIVE, UNKNOWN):
            raise self.lost(state)
