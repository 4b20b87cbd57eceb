"""When a run that makes no progress has hung."""

from __future__ import annotations

from collections.abc import Sequence

from xlatrain.xla.heartbeat import BUILDING, COMPILING, SAVING, STARTING, Heartbeat

# Seconds that may pass in a phase without a sign of progress, where it says none on its way. The longest compile seen
# was of 203 s (EfficientNet-B5 for v3); a replica builds while others download the same weights.
_LIMITS = {STARTING: 600.0, BUILDING: 1800.0, COMPILING: 3600.0, SAVING: 1800.0}
_HELD_UP = 10.0  # seconds between two looks, after which it was the watchdog that stood still, and maybe all with it


class Watchdog:
    """Finds a run in which no replica gets any further for too long: one that hangs makes the others wait for it.

    stall_after: seconds without a step, or a batch of an evaluation; None never ends. Times are the watcher's own, so
    that a clock of another process, or one that is frozen, deceives nobody.
    """

    def __init__(self, stall_after: float | None, clock: float):
        self.stall_after, self._seen = stall_after, {}
        self._moved = self._looked = clock

    def look(self, beats: Sequence[Heartbeat], clock: float, frozen: bool = False) -> float | None:
        """Seconds without progress, when they are too many. clock: of time.monotonic. frozen: a process is stopped, so
        that it is in no phase that takes long, whatever it said last."""
        places = {(beat.host, beat.pid, n): place for beat in beats for n, place in beat.replicas.items()}
        if places != self._seen or clock - self._looked > _HELD_UP:
            self._seen, self._moved = places, clock
        self._looked = clock
        if self.stall_after is None:
            return None
        phases = {place.phase for place in places.values()} or {STARTING}
        limit = self.stall_after
        if not frozen:
            limit = max(limit, *(_LIMITS.get(phase, 0.0) for phase in phases))
        idle = clock - self._moved
        return idle if idle > limit else None
