"""Where a run's wall time goes: every moment of a replica's thread counted once, by what it was spent on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

# starting: processes, building, workers up to the first batch. device: waiting for it. host: the rest of the loop.
STARTING, COMPILE, DATA, DEVICE = "starting", "compile", "data", "device"
HOST, EVALUATION, SAVING = "host", "evaluation", "saving"
PLACES = (STARTING, COMPILE, DATA, DEVICE, HOST, EVALUATION, SAVING)

_NOTICED = 1e-3  # seconds: what reading the metrics of a step that has ended takes is less


class Spent:
    """Always in one place; what is begun within another one counts for the inner one alone. Begins with starting."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock, self._since, self._place = clock, clock(), STARTING
        self._seconds = dict.fromkeys(PLACES, 0.0)
        self._hidden = 0.0  # seconds waited for data while the device had something to do

    def turn_to(self, place: str) -> str:
        """Be in a place from now on; returns the one before."""
        now, before = self._clock(), self._place
        self._seconds[before] += now - self._since
        self._since, self._place = now, place
        return before

    @contextlib.contextmanager
    def on(self, place: str) -> Iterator[None]:
        """Within, in a place; then back."""
        before = self.turn_to(place)
        try:
            yield
        finally:
            self.turn_to(before)

    @contextlib.contextmanager
    def waiting_for_data(self, busy: bool) -> Iterator[None]:
        """Within, for a batch. busy: the device has steps to run meanwhile, so that the wait may cost nothing."""
        before = self._seconds[DATA]
        with self.on(DATA):
            yield
        self._hidden = self._hidden + self._seconds[DATA] - before if busy else 0.0

    @contextlib.contextmanager
    def waiting_for_device(self) -> Iterator[None]:
        """Within, for a step to end. One that is still running was so while data were waited for: that was the
        device's time."""
        before = self._seconds[DEVICE]
        with self.on(DEVICE):
            yield
        if self._seconds[DEVICE] - before > _NOTICED:
            self._seconds[DATA] -= self._hidden
            self._seconds[DEVICE] += self._hidden
        self._hidden = 0.0

    def seconds(self) -> dict[str, float]:
        """Up to now, by place; in all they are the time since the start, and of starts before."""
        self.turn_to(self._place)
        return {place: round(seconds, 4) for place, seconds in self._seconds.items()}

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count what was spent elsewhere: in starts before this one."""
        for place in PLACES:
            self._seconds[place] += seconds.get(place, 0.0)
