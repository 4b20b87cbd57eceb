"""From a request for machines to a run that is done: machines that are taken away are replaced, limits are kept, and
nothing is left running in silence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xlatrain.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, EXIT_STOPPED
from xlatrain.launching.answer import ACTIVE, GONE, UNKNOWN
from xlatrain.launching.machines import EndedError, LostError, money
from xlatrain.launching.pod import Pod
from xlatrain.words import counted

_LONGEST = 1800.0  # seconds between two requests
_ENDING = 60.0  # seconds that stopping and deleting may take, paid for too
_PRESSES = 3  # of Ctrl-C, one after the other, that do not keep from what is done
INTERRUPTED = 130
_STATUS = {EXIT_DONE: "done", EXIT_STOPPED: "stopped", INTERRUPTED: "interrupted"}  # in launch.json; else failed


@dataclass(frozen=True)
class Limits:
    """usd and hours: of all machines together, None for no limit. tries: requests. retry: seconds before the second."""

    usd: float | None
    hours: float | None
    tries: int
    retry: float


class Hangup(KeyboardInterrupt):
    """The terminal is gone, or somebody wants this process to end: there is nobody to ask."""


class UntilDone:
    """keep: asked, when Ctrl-C is pressed, whether the machines stay; None where there is nobody to ask."""

    def __init__(self, pod: Pod, limits: Limits, keep: Callable[[str], bool] | None):
        self._pod, self._limits, self._keep = pod, limits, keep
        self._follows = False  # a run is on the machines
        pod.script.left = self._left

    def run(self) -> int:
        """Returns the exit code: 0 done, 75 stopped at a limit or by `xlatrain launch stop`, 1 and 2 as the run's, 130
        interrupted."""
        try:
            code = self._to_its_end()
        except KeyboardInterrupt as interrupt:
            code = self._heard(interrupt)
        except Exception as error:
            self._pod.say(f"this was not foreseen: {type(error).__name__}: {error}")
            self._give_back()
            raise
        finally:
            self._last_words()
        self._pod.ledger.close(_STATUS.get(code, "failed"), self._pod.clock.now())
        return code

    def _to_its_end(self) -> int:
        try:
            code = self._try_on()
        except EndedError as ended:
            self._pod.say(ended.why)
            code = ended.code
            if not ended.begun:
                return code
        return code if self._give_back() else EXIT_FAILED

    def create(self) -> int:
        """Machines, which stay: `xlatrain launch create`."""

        def obtain() -> None:
            self._pod.claim()
            self._pod.obtain()

        return self.guarded(obtain)

    def run_once(self) -> int:
        """The run on machines that are there, which stay: `xlatrain launch run`."""
        return self.guarded(self._run_once)

    def _run_once(self) -> int:
        if not self._pod.runs():
            self._pod.start()
        self._follows = True
        return self._finish(self._pod.follow(self._watch))

    def guarded(self, act: Callable[[], Any]) -> int:
        """Do something with machines that stay, but where a limit is reached or Ctrl-C says otherwise. Returns the exit
        code, which is what it gives if that is a number."""
        try:
            found = act()
            code = found if type(found) is int else EXIT_DONE
        except (EndedError, LostError) as ended:
            self._pod.say(str(ended))
            code = ended.code if isinstance(ended, EndedError) else EXIT_FAILED
            if code == EXIT_STOPPED and self._beyond():
                self._give_back()
        except KeyboardInterrupt as interrupt:
            code = self._heard(interrupt)
        finally:
            self._last_words()
        return code

    def _last_words(self) -> None:
        """Which machines there are, also for one who presses Ctrl-C too soon to be told."""
        for _ in range(_PRESSES):
            try:
                return self._pod.say_what_exists()
            except KeyboardInterrupt:
                continue
        self._pod.say("whether there is a machine was not waited for. This deletes it:")
        self._pod.say_how_to_delete()

    def _try_on(self) -> int:
        idle = 0
        self._pod.claim()
        self._pod.state()  # what there is no more costs no more
        while True:
            try:
                self._may_ask(idle)
                before = self._pod.obtain()
                idle = 0
                if not (before and self._pod.runs()):
                    self._pod.set_up(self._watch)
                    self._pod.start()
                self._follows = True
                return self._finish(self._pod.follow(self._watch))
            except LostError as lost:
                goes_on = "; the run will go on from its last checkpoint, on other machines" if self._follows else ""
                self._follows = False
                self._pod.say(f"{lost}{goes_on}")
                if self._pod.state().name != GONE and not self._pod.delete():
                    why = "the machines are not given back: none are asked for beside them"
                    raise EndedError(EXIT_FAILED, why) from None
                self._may_ask(idle)
                wait = min(self._limits.retry * 2**idle, _LONGEST)
                self._pod.say(f"the next try is in {wait:g} s")
                self._pod.clock.sleep(wait)
                idle += 1

    def _may_ask(self, idle: int) -> None:
        """Raises EndedError where a limit forbids further machines."""
        tries = self._pod.ledger.tries
        if tries >= self._limits.tries and self._pod.state().name == GONE:
            raise EndedError(EXIT_STOPPED, f"{counted(tries, 'try')} of launch.max_tries={self._limits.tries} are made")
        if beyond := self._beyond():
            raise EndedError(EXIT_STOPPED, beyond)

    def _beyond(self) -> str:
        """Which limit would be passed before the next look; "" where none is."""
        ledger, limits = self._pod.ledger, self._limits
        then = self._pod.clock.now() + self._pod.poll + _ENDING
        spent, hours = ledger.spent(then), ledger.hours(then)
        if not ledger.open:  # what the shortest use of another one comes to
            extra = (self._pod.poll + _ENDING) / 3600
            hours += extra
            spent = None if spent is None else spent + extra * (self._pod.wanted.usd_per_hour or 0)
        if limits.usd is not None and spent is not None and spent > limits.usd:
            return f"launch.max_usd={limits.usd:g} is all but reached"
        if limits.hours is not None and hours > limits.hours:
            return f"launch.max_hours={limits.hours:g} is all but reached"
        return ""

    def _left(self) -> float:
        """Seconds till a limit, of which the last are for ending."""
        ledger, limits, now, rate = self._pod.ledger, self._limits, self._pod.clock.now(), self._pod.wanted.usd_per_hour
        if not ledger.open:
            return math.inf
        hours = math.inf if limits.hours is None else limits.hours - ledger.hours(now)
        if limits.usd is not None and rate and (spent := ledger.spent(now)) is not None:
            hours = min(hours, (limits.usd - spent) / rate)
        return 3600 * hours - _ENDING

    def _watch(self) -> None:
        if beyond := self._beyond():
            self._pod.say(beyond + (": the run is asked to save itself" if self._follows else ""))
            self._pod.finish("stop", _ENDING)
            raise EndedError(EXIT_STOPPED, "stopped at the limit; a higher one goes on with it")

    def _finish(self, worker: dict[str, Any]) -> int:
        """What to make of the first worker that has ended. Raises LostError, EndedError."""
        pod, number, code = self._pod, worker["worker"], worker.get("code")
        if worker["state"] != "ended":
            pod.finish("stop")
            raise LostError(f"the run on worker {number} is gone without a word")
        if code == EXIT_DONE:
            # When worker 0 ends all is written. Others may wait for it in vain, where the run was finished before.
            said = pod.finish("look" if number else "stop")
            return self._done({**said, number: worker})  # whom perhaps nobody can reach just then
        pod.say(f"worker {number} has ended with exit code {code}")
        if code == EXIT_CONFIG:
            raise EndedError(
                EXIT_CONFIG, f"the configuration is wrong, says worker {number}:\n{worker.get('said', '')}"
            )
        pod.finish("stop")
        pod.clock.sleep(pod.poll)  # a slice that is taken away says so after its runs have ended
        if (state := pod.state()).name not in (ACTIVE, UNKNOWN):
            raise pod.lost(state)
        if code != EXIT_STOPPED:
            raise EndedError(code, f"the run failed on worker {number}:\n{worker['said']}")
        if worker.get("asked"):
            raise EndedError(EXIT_STOPPED, "stopped as asked, with all of it saved; the same command goes on with it")
        raise LostError("the run was told that its machine goes")

    def _done(self, said: dict[int, dict[str, Any]]) -> int:
        summary = next((w["summary"] for w in said.values() if w.get("summary", {}).get("status") == "done"), None)
        self._follows = False
        if summary is None:
            raise EndedError(EXIT_FAILED, "the run has ended with exit code 0, and no summary says that it is done")
        top1 = summary.get("top1")
        result = f"top-1 {top1:.4f}, " if isinstance(top1, (int, float)) else ""
        where = f"; all of it is in {self._pod.run.kept}" if self._pod.run.kept else ""
        self._pod.say(f"done: {result}{counted(summary.get('steps', 0), 'step')}{where}")
        return EXIT_DONE

    def _give_back(self) -> bool:
        """Delete the machines, whoever presses Ctrl-C meanwhile, but for the third time. Returns whether they are
        gone."""
        for _ in range(_PRESSES):
            try:
                return self._pod.foreign or self._pod.state().name == GONE or self._pod.delete()
            except KeyboardInterrupt:
                self._pod.say("the machines are being deleted: till then they cost")
        return False

    def _heard(self, interrupt: KeyboardInterrupt) -> int:
        """What Ctrl-C comes to. One that is pressed again before it has come to anything is the same one."""
        for _ in range(_PRESSES):
            try:
                return self._interrupted(interrupt)
            except KeyboardInterrupt as again:
                interrupt = interrupt if isinstance(interrupt, Hangup) else again
        self._give_back()
        return INTERRUPTED

    def _interrupted(self, interrupt: KeyboardInterrupt) -> int:
        """Ask whether the machines stay, where there are any and somebody to ask."""
        state = self._pod.state()
        if state.name == GONE or self._pod.foreign:
            return INTERRUPTED
        if self._keep and not isinstance(interrupt, Hangup):
            rate = money(self._pod.wanted.usd_per_hour)
            try:
                if self._keep(f"{self._pod.wanted.name} is {state.name}, {rate} an hour. Keep it? [y/N] "):
                    self._pod.say("kept, as is the run on it; the same command follows it again")
                    return INTERRUPTED
            except (KeyboardInterrupt, OSError):  # the last where the terminal is gone
                self._pod.say("that is no yes")
        else:
            self._pod.say("interrupted, with nobody to ask whether the machines stay: they are deleted")
        try:
            if self._follows and state.name in (ACTIVE, UNKNOWN):
                self._pod.say("the run is asked to save itself; Ctrl-C deletes the machines at once")
                self._pod.finish("stop")
        except KeyboardInterrupt:
            pass
        self._give_back()
        return INTERRUPTED
