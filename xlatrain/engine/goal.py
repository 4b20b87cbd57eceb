"""What a run is to reach (train.until), and what it took to get there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xlatrain.config.cluster import usd_per_hour
from xlatrain.preflight.checked import CheckedRun
from xlatrain.preflight.until import parse_until


class Goal:
    """Looked at after each evaluation, whose result all replicas share: they agree without a word. reached: what the
    summary says of it; None while it is not."""

    def __init__(self, run: CheckedRun):
        text = run.config.train.until
        self._until, self._cluster = parse_until(text) if text is not None else None, run.config.cluster
        self.reached: dict[str, Any] | None = None

    def look(self, result: Mapping[str, Any], step: int, epoch: float, images: int, spent: Mapping[str, float]) -> bool:
        """Whether an evaluation reaches it. step, epoch, images, spent: up to then, over all starts of the run; spent
        in seconds, by what they were spent on, from the start of the replicas on."""
        if self._until is None or not self._until.met(result):
            return False
        seconds = sum(spent.values())
        prices = {"usd": usd_per_hour(self._cluster), "usd_spot": usd_per_hour(self._cluster, spot=True)}
        self.reached = {
            self._until.metric: result[self._until.metric],
            "step": step,
            "epoch": epoch,
            "images": images,
            "seconds": round(seconds, 3),
            "hours": round(seconds / 3600, 6),
            **{name: None if price is None else round(price * seconds / 3600, 4) for name, price in prices.items()},
        }
        return True

    def describe(self) -> str:
        """In a line, once it is reached."""
        found = self.reached
        return f"{self._until.text} after step {found['step']:,}, {found['images']:,} images, {found['seconds']:.1f} s"

    def figures(self) -> dict[str, Any]:
        """For the summary; nothing of a run without a goal."""
        return {} if self._until is None else {"until": self._until.text, "reached": self.reached}
