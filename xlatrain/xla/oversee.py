"""One thread of the parent process watches over a run: it hears who asks it to stop, and finds out that it hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from xlatrain.console import say
from xlatrain.xla import heartbeat, stacks, stop
from xlatrain.xla.replica_main import Job
from xlatrain.xla.stall import Watchdog

_LOOK = 0.25  # seconds


class Overseer:
    """Within, it watches. kill ends all processes of the run, over and over if need be.

    alone: no other machine takes part, so that a run that has not begun can be ended at once. unbegun: it was.
    stalled: what is to be said of a run that hung and was ended, stacks: those of all its threads.
    """

    def __init__(self, job: Job, alone: bool, kill: Callable[[], None]):
        self.job, self._alone, self._kill = job, alone, kill
        self.unbegun = False
        self.stalled = self.stacks = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="overseer")

    @property
    def folder(self) -> Path:
        """Where the heartbeats are."""
        return self.job.watch.heartbeats

    def __enter__(self) -> Overseer:
        heartbeat.clear(self.folder)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def behind(self) -> str:
        """Which replicas are behind, by what was heard last."""
        return heartbeat.describe_behind(heartbeat.read(self.folder))

    def left_stacks(self) -> str:
        """Of processes that aborted."""
        return stacks.gather(self.job.channel, heartbeat.read(self.folder), ask=False)

    def _watch(self) -> None:
        watchdog, heard = Watchdog(self.job.watch.stall_after, time.monotonic()), False
        while not self._ended.wait(_LOOK):
            if not heard and (why := stop.asked(self.job.channel)):
                heard = True
                self._hear(why)
            beats = heartbeat.read(self.folder)
            frozen = [beat for beat in beats if heartbeat.process_state(beat.pid) == "T"]
            idle = watchdog.look(beats, time.monotonic(), bool(frozen))
            if idle is not None and not self.unbegun:
                words = [f"the run hangs: nothing moved for {idle:.0f} s (engine.stall_after={watchdog.stall_after:g})"]
                words += [f"process {beat.pid} is stopped, as by SIGSTOP" for beat in frozen]
                words.append(heartbeat.describe_behind(beats))
                self.stacks = stacks.gather(self.job.channel, beats)
                self.stalled = "\n".join(words)
                self._kill()
                return

    def _hear(self, why: str) -> None:
        if self._alone and stop.prevent(self.job.channel):
            self.unbegun = True
            self._kill()
        else:
            say(f"stopping ({why}): the step in hand is the last one; once more ends the run at once")
