"""What is worth noting in the course of a run: losses far above those before, and updates that were left out."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any

_WINDOW, _LEAST = 100, 10  # losses that a new one is compared with, at most and at least


class Anomalies:
    """Fed with the metrics of each step, in order. spike: a loss above so many times the running median is one; None =
    none is."""

    def __init__(self, spike: float | None):
        self._spike, self._losses, self._high = spike, deque(maxlen=_WINDOW), False

    def of_step(self, values: dict[str, float]) -> list[dict[str, Any]]:
        """The events of a step. A spike is one event however long it lasts; its losses are not compared with. Of
        updates left out in a row each is one."""
        events: list[dict[str, Any]] = []
        if in_a_row := int(values["skipped_in_a_row"]):
            events.append({"event": "skipped_update", "in_a_row": in_a_row})
        loss = values["loss"]
        if self._spike is None or not math.isfinite(loss):
            return events
        median = statistics.median(self._losses) if len(self._losses) >= _LEAST else math.inf
        high = loss > self._spike * median
        if high and not self._high:
            events.append({"event": "loss_spike", "loss": loss, "median": median})
        if not high:
            self._losses.append(loss)
        self._high = high
        return events
