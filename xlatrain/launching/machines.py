"""Machines of Google Cloud in the hands of one who waits: asked for, waited for, given back, each told in a line with
what was spent so far."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from xlatrain.console import say
from xlatrain.errors import EXIT_FAILED, EXIT_STOPPED
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
    is_passing,
    is_quota,
    is_taken,
)
from xlatrain.launching.ledger import Ledger, Machine
from xlatrain.launching.slice import Slice
from xlatrain.words import counted

_DELETE_TRIES = 5
_OFFLINE_TRIES, _OFFLINE_WAIT = 360, 60.0  # to delete what cannot be seen from here; seconds between two


class LostError(Exception):
    """The machines are not to be had, or gone: others may be asked for."""


class EndedError(Exception):
    """It is over. code: the exit code of the command. begun: machines may have been asked for, and are to go."""

    def __init__(self, code: int, why: str, begun: bool = True):
        super().__init__(why)
        self.code, self.why, self.begun = code, why, begun


class Calls(Protocol):
    """Of script.Script, what a pod needs."""

    left: Callable[[], float]

    def create(self) -> Answer: ...
    def state(self) -> State: ...
    def delete(self) -> Answer: ...
    def setup(self) -> Answer: ...
    def ask(self, verb: str, words: list[str], worker: str = "all") -> Answer: ...
    def shown(self, verb: str) -> list[str]: ...


def _tell(text: str) -> None:
    """A line on standard error; that its reader is gone is no reason to leave machines alone."""
    with contextlib.suppress(OSError):
        say(text)


class Clock:
    """Seconds of the epoch, and waiting."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(eq=False)
class Machines:
    """poll: seconds between two looks; max_wait: hours for a request; tell: takes a line."""

    wanted: Slice
    script: Calls
    ledger: Ledger
    poll: float
    max_wait: float | None = None
    clock: Clock = field(default_factory=Clock)
    tell: Callable[[str], None] = _tell

    def __post_init__(self) -> None:
        self._began = self._looked = self.clock.now()
        self._saw = self._asked = False
        self.foreign = False  # perhaps another's, which nobody here deletes or pays for

    def say(self, text: str) -> None:
        """A line, with the time since the command was given and what was spent."""
        now = self.clock.now()
        spent = self.ledger.spent(now)
        passed = str(timedelta(seconds=int(now - self._began)))
        self.tell(f"[{passed:>8}  {money(spent):>10}] {text}")

    def state(self) -> State:
        """Of the queued resource, and what that means for the bill."""
        state, before = self.script.state(), self._looked
        now = self._looked = self.clock.now()
        if state.name == ACTIVE and not self.ledger.open and not self.foreign:
            w = self.wanted  # it may have come just after the last look: not a cent too little is counted
            self.ledger.begin(Machine(w.name, w.accelerator_type, w.capacity, w.usd_per_hour, before, now))
        elif state.name == GONE and self.ledger.open:
            if self._saw:
                self.ledger.end(now)
            else:  # of an earlier command
                self.ledger.end(self.ledger.open.seen)
                self.say(f"{self.wanted.name} is gone, since when is not known: counted until it was last seen")
            self.ledger.asked = False
        self._saw = self._saw or state.name == ACTIVE
        self.ledger.see(now)
        self._write()
        return state

    def _write(self) -> None:
        try:
            self.ledger.write(self.clock.now())
        except OSError as error:  # a full disk is no reason to leave machines alone
            self.tell(f"{self.ledger.path} is not written: {error}")

    def claim(self) -> None:
        """See that the machines of that name, if any, were asked for from here, and are those that are wanted. Raises
        EndedError."""
        self.foreign = not self.ledger.asked
        state, name, open_ = self.script.state(), self.wanted.name, self.ledger.open
        if state.name in (GONE, UNKNOWN):
            return
        if self.foreign:
            problem = f"{name} is there already, and {self.ledger.path} does not say that it was asked for from here"
            cure = "it may be another's: take another launch.name, or go on with it where it was asked for"
            raise EndedError(EXIT_FAILED, f"{problem}: {cure}", begun=False)
        if open_ and open_.accelerator_type != self.wanted.accelerator_type:
            problem = f"{name} is there already as {open_.accelerator_type}, and not as {self.wanted.accelerator_type}"
            raise EndedError(EXIT_FAILED, f"{problem}: delete it first, or take another launch.name", begun=False)

    def obtain(self) -> bool:
        """Wait until the machines are there; ask for them where nobody has. Returns whether they had been there
        already. Raises LostError, EndedError."""
        state = self.state()
        if state.name == ACTIVE:
            self.say(f"{self.wanted.name} is there already: {self.wanted}")
            return True
        if state.name == UNKNOWN:
            said = f"gcloud does not say what there is: {state.said}"
            if self._asked:
                raise LostError(said)  # it did before
            raise EndedError(EXIT_FAILED, said, begun=False)
        if state.name == GONE:
            self.ledger.tries += 1
            before, self._asked, self.ledger.asked, self.foreign = self.ledger.asked, True, True, False
            self.say(f"try {self.ledger.tries}: asking for {self.wanted}")
            self._write()  # before: who ends this process now has machines all the same
            self._refused(self.script.create(), before)
            state = self.state()
        asked, told = self.clock.now(), ""
        while state.name != ACTIVE:
            if state.name == GONE and told:
                raise self.lost(state)
            if state.name in ENDED or state.name == GONE:
                if is_quota(state.said):
                    raise EndedError(EXIT_FAILED, f"the quota does not allow it: {state.said}")
                raise LostError(f"{state.name}{': ' if state.said else ''}{state.said}")
            if state.name != told:
                self.say(state.name + (f": {state.said}" if state.said else ""))
                told = state.name
            if self.max_wait is not None and self.clock.now() - asked > 3600 * self.max_wait:
                raise LostError(f"no machines within {self.max_wait:g} h")
            self.clock.sleep(self.poll)
            state = self.state()
        waited = timedelta(seconds=int(self.clock.now() - asked))
        self.say(f"ACTIVE after {waited}: {money(self.wanted.usd_per_hour)} an hour from here on")
        return False

    def lost(self, state: State) -> LostError | EndedError:
        """What it means that machines which were there are in another state than ACTIVE. Google takes machines away and
        leaves the request; deleted it is by somebody who wants no others."""
        if state.name in (GONE, DELETING):
            why = f"somebody has deleted {self.wanted.name}: no other is asked for, but by the same command"
            return EndedError(EXIT_STOPPED, why)
        return LostError(f"the machines are {state.name}")

    def _refused(self, answer: Answer, before: bool) -> None:
        """Nothing, where a request was taken. before: one was made from here that has come to nothing yet, as by a
        command that was killed. Raises LostError where it may be later, EndedError where not."""
        if answer.code == 0:
            return
        words = answer.last_words
        if is_taken(words) and not before:
            self.foreign, self.ledger.asked = True, False
            why = f"{self.wanted.name} was asked for by somebody else just now: take another launch.name"
            raise EndedError(EXIT_FAILED, why, begun=False)
        if (state := self.state()).name in (*WAITING, ACTIVE):
            return  # it was taken all the same: the connection broke
        self.ledger.asked = state.name != GONE
        if (is_capacity(words) or is_passing(words) or state.name == UNKNOWN) and not is_quota(words):
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
                self.ledger.asked = False
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
        self.say_how_to_delete()

    def say_how_to_delete(self) -> None:
        for command in self.script.shown("delete"):
            self.tell(f"  {command}")


def money(usd: float | None) -> str:
    return "? USD" if usd is None else f"{usd:,.2f} USD"
