"""A slice of Google Cloud in the hands of one who waits: asked for, set up, followed, stopped, given back, each step
told in a line with what it has cost so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from xlatrain.console import say
from xlatrain.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED
from xlatrain.launching.answer import (
    ACTIVE,
    DELETING,
    ENDED,
    GONE,
    UNKNOWN,
    WAITING,
    Answer,
    State,
    is_capacity,
    is_quota,
)
from xlatrain.launching.ledger import Ledger, Machine
from xlatrain.launching.script import words_for
from xlatrain.launching.slice import Slice
from xlatrain.launching.workers import failures, other_versions, who
from xlatrain.words import counted, ranges

_UNREACHED = 10  # looks in a row that no machine answers, after which they count as lost
_STOP_SECONDS = 300.0  # for a run to save itself
_DELETE_TRIES = 5
_OFFLINE_TRIES, _OFFLINE_WAIT = 360, 60.0  # to delete what cannot be seen from here; seconds between two
_TOLD_EVERY = 600.0  # seconds, a line about a run that does nothing but go on


class LostError(Exception):
    """The machines are not to be had, or gone: others may be asked for."""


class EndedError(Exception):
    """It is over. code: the exit code of the command. begun: machines may have been asked for, and are to go."""

    def __init__(self, code: int, why: str, begun: bool = True):
        super().__init__(why)
        self.code, self.why, self.begun = code, why, begun


class Calls(Protocol):
    """Of script.Script, what a pod needs."""

    def create(self) -> Answer: ...
    def state(self) -> State: ...
    def delete(self) -> Answer: ...
    def setup(self) -> Answer: ...
    def ask(self, verb: str, words: list[str], worker: str = "all") -> Answer: ...
    def shown(self, verb: str) -> list[str]: ...


class Clock:
    """Seconds of the epoch, and waiting."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Run:
    """What is to be run. folder: of the run, as each machine has it; kept: where copies go; overrides: of train."""

    folder: str
    kept: str | None
    stage: str
    overrides: list[str]


class Pod:
    """poll: seconds between two looks; max_wait: hours for a request."""

    def __init__(
        self,
        wanted: Slice,
        run: Run,
        script: Calls,
        ledger: Ledger,
        poll: float,
        max_wait: float | None = None,
        clock: Clock | None = None,
        tell: Callable[[str], None] = say,
    ):
        self.wanted, self.run, self.script, self.ledger = wanted, run, script, ledger
        self.poll, self._max_wait, self.clock, self._tell = poll, max_wait, clock or Clock(), tell
        self._began = self.clock.now()
        self._looked = self._began
        self._number = 0

    def say(self, text: str) -> None:
        """A line, with the time since the command was given and what was spent."""
        now = self.clock.now()
        spent = self.ledger.spent(now)
        passed = str(timedelta(seconds=int(now - self._began)))
        self._tell(f"[{passed:>8}  {money(spent):>10}] {text}")

    # Machines

    def state(self) -> State:
        """Of the queued resource, and what that means for the bill."""
        state, before = self.script.state(), self._looked
        now = self._looked = self.clock.now()
        if state.name == ACTIVE and not self.ledger.open:
            w = self.wanted  # it may have come just after the last look: not a cent too little is counted
            self.ledger.begin(Machine(w.name, w.accelerator_type, w.capacity, w.usd_per_hour, before, now))
        elif state.name == GONE:
            self.ledger.end(now)
        self.ledger.see(now)
        try:
            self.ledger.write(now)
        except OSError as error:  # a full disk is no reason to leave machines alone
            self._tell(f"{self.ledger.path} is not written: {error}")
        return state

    def obtain(self) -> bool:
        """Wait until the machines are there; ask for them where nobody has. Returns whether they had been there
        already. Raises LostError, EndedError."""
        state = self.state()
        if state.name == ACTIVE:
            self.say(f"{self.wanted.name} is there already: {self.wanted}")
            return True
        if state.name == UNKNOWN:
            raise EndedError(EXIT_FAILED, f"gcloud does not say what there is: {state.said}", begun=False)
        if state.name == GONE:
            self.ledger.tries += 1
            self.say(f"try {self.ledger.tries}: asking for {self.wanted}")
            self._refused(self.script.create())
            state = self.state()
        asked, told = self.clock.now(), ""
        while state.name != ACTIVE:
            if state.name in ENDED or state.name == GONE:
                if is_quota(state.said):
                    raise EndedError(EXIT_FAILED, f"the quota does not allow it: {state.said}")
                raise LostError(f"{state.name}{': ' if state.said else ''}{state.said}")
            if state.name != told:
                self.say(state.name + (f": {state.said}" if state.said else ""))
                told = state.name
            if self._max_wait is not None and self.clock.now() - asked > 3600 * self._max_wait:
                raise LostError(f"no machines within {self._max_wait:g} h")
            self.clock.sleep(self.poll)
            state = self.state()
        waited = timedelta(seconds=int(self.clock.now() - asked))
        self.say(f"ACTIVE after {waited}: {money(self.wanted.usd_per_hour)} an hour from here on")
        return False

    def _refused(self, answer: Answer) -> None:
        """Nothing, where a request was taken. Raises LostError where it may be later, EndedError where not."""
        if answer.code == 0:
            return
        words = answer.last_words
        if self.state().name in (*WAITING, ACTIVE):
            return  # it was taken all the same: the connection broke
        if is_capacity(words) and not is_quota(words):
            raise LostError(words)
        cure = "ask for more, or delete what holds it" if is_quota(words) else "see the message of gcloud"
        raise EndedError(EXIT_FAILED, f"refused: {words} ({cure})")

    def delete(self, patient: bool = True) -> bool:
        """Give the machines back, whatever they do. patient: wait for hours where gcloud cannot say what has become of
        them, as when this computer is offline. Returns whether they are gone."""
        tries = offline = 0
        while True:
            answer = self.script.delete()
            while (state := self.state()).name == DELETING:
                self.clock.sleep(min(self.poll, 10.0))
            if state.name == GONE:
                self.say(f"{self.wanted.name} is deleted")
                return True
            lost = state.name == UNKNOWN and patient
            tries, offline = (tries, offline + 1) if lost else (tries + 1, offline)
            if not lost or offline == 1:
                self.say(f"{self.wanted.name} is not deleted yet, it is {state.name}: {answer.last_words}")
            if tries >= _DELETE_TRIES or offline >= _OFFLINE_TRIES or not patient:
                return False
            self.clock.sleep(_OFFLINE_WAIT if lost else self.poll)

    def say_what_exists(self) -> None:
        """Which machines there are, and the command that ends them: the last word of each command."""
        state = self.state()
        bill = f"{money(self.ledger.spent(self.clock.now()))}, {self.ledger.hours(self.clock.now()):.2f} h"
        bill += f" in {counted(len(self.ledger.machines), 'machine')}" if len(self.ledger.machines) > 1 else ""
        if state.name == GONE:
            self.say(f"no machine is left; spent: {bill}")
            return
        costs = f", {money(self.wanted.usd_per_hour)} an hour" if state.name in (ACTIVE, UNKNOWN) else ""
        if state.name == UNKNOWN:
            self.say(f"whether {self.wanted.name} exists{costs}, gcloud does not say; spent: {bill}. This deletes it:")
        else:
            self.say(f"{self.wanted.name} exists: {state.name}{costs}; spent: {bill}. This deletes it:")
        for command in self.script.shown("delete"):
            self._tell(f"  {command}")

    # The run on them

    def runs(self) -> bool:
        """Whether the run goes on, on all of them, as somebody has started it before."""
        said = self.look()
        running = len(said) == self.wanted.hosts and all(worker["state"] == "running" for worker in said.values())
        if running:
            self.say(f"the run goes on already, in step {max(worker['step'] for worker in said.values()):,}")
        return running

    def set_up(self) -> None:
        """Install, compare versions, look at each machine. Raises LostError, EndedError."""
        for attempt in (1, 2):
            answer = self.script.setup()
            if answer.code == 0:
                break
            self._still_there()
            self.say(f"setup failed: {who(answer)}" + ("; once more" if attempt == 1 else ""))
        else:
            raise EndedError(EXIT_FAILED, f"setup failed twice: {who(answer)}")
        checked = self.script.ask("check", self._words())
        said = checked.of_workers
        if checked.code or not said:
            self._still_there()
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
        answer = self.script.ask("start", self._words())
        if answer.code and not answer.of_workers:
            self._still_there()
            raise EndedError(EXIT_FAILED, f"the run is not started: {who(answer)}")
        self.say(f"the run is started on {counted(self.wanted.hosts, 'worker')}")

    def follow(self, watch: Callable[[], None]) -> dict[str, Any]:
        """Wait until a worker ends, and return what it says, with its number as worker. watch: called before each wait,
        may raise. Raises LostError where the machines are."""
        unreached, told, told_at, sick, offline = 0, -1, 0.0, "", False
        while True:
            watch()
            self.clock.sleep(self.poll)
            if (state := self.state()).name not in (ACTIVE, UNKNOWN):
                raise LostError(f"the machines are {state.name}")
            if (state.name == UNKNOWN) != offline:
                offline = not offline
                self.say(f"gcloud does not answer: {state.said}" if offline else "gcloud answers again")
            if offline:
                continue  # of this computer nothing is known; the run goes on, or will be gone on with
            said = self.look()
            if not said:
                unreached += 1
                if unreached == 1:
                    self.say("no worker can be reached; the run goes on without this connection")
                if unreached >= _UNREACHED:
                    raise LostError("no worker can be reached any more")
                continue
            if unreached:
                self.say("workers can be reached again")
            unreached = 0
            if ended := {n: worker for n, worker in said.items() if worker["state"] in ("ended", "died", "none")}:
                first = min(ended, key=lambda n: (ended[n]["state"] != "ended", ended[n].get("code") == EXIT_DONE, n))
                return {**ended[first], "worker": first}
            step = max(worker.get("step", 0) for worker in said.values())
            if told < 0 or (step > told and self.clock.now() - told_at >= min(_TOLD_EVERY, 2 * self.poll)):
                self.say(f"step {step:,}")
                told, told_at = step, self.clock.now()
            now_sick = "; ".join(f"worker {n}: {text}" for n, worker in said.items() for text in worker.get("sick", ()))
            if now_sick and now_sick != sick:
                self.say(now_sick)
            sick = now_sick

    def look(self) -> dict[int, dict[str, Any]]:
        """What each worker says; those that say nothing are not in it."""
        return self._ask("look")

    def finish(self, verb: str = "look") -> dict[int, dict[str, Any]]:
        """Wait until no worker runs any more, five minutes at most, and return what they say. verb: stop asks the run
        to save itself."""
        said = self._ask(verb)
        until = self.clock.now() + _STOP_SECONDS
        while any(worker["state"] == "running" for worker in said.values()) and self.clock.now() < until:
            self.clock.sleep(min(self.poll, 5.0))
            if self.state().name not in (ACTIVE, UNKNOWN):
                break
            said = self.look() or said
        return said

    def _ask(self, verb: str) -> dict[int, dict[str, Any]]:
        """look or stop."""
        return self.script.ask(verb, [f"--run={self.run.folder}"]).of_workers

    def _words(self) -> list[str]:
        return words_for(self.run.folder, self.run.kept, self.run.stage, self._number, self.run.overrides)

    def _still_there(self) -> None:
        """Raises LostError where what failed did so since the machines are gone."""
        if (state := self.state()).name not in (ACTIVE, UNKNOWN):
            raise LostError(f"the machines are {state.name}")


def money(usd: float | None) -> str:
    return "? USD" if usd is None else f"{usd:,.2f} USD"
