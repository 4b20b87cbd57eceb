"""Counts of a run on the host: means over an interval, speed, and where the time goes. They go on where a run does."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

from xlatrain.checkpoint.manifest import number
from xlatrain.engine.spent import Spent

_WARM_UP = 3  # steps before times are counted, after each start: the first compiles


class Meter:
    """Fed once a step; asked once an interval and at the end."""

    def __init__(self):
        self._interval: list[dict[str, float]] = []
        self._steps = self._images = self._images_at_start = 0  # steps: since this start
        self._before = (0, 0.0, 0.0)  # images, seconds and seconds waited that were counted before this start
        self._skipped_samples = 0
        self._skipped_steps = 0
        self._host: list[float] = []
        self._clock: float | None = None  # since the end of the warm-up, pauses left out
        self._paused = 0.0
        self._waited = self._waited_at_start = 0.0
        self._mark = (0, 0, 0.0)  # steps, images, seconds
        self.images_per_second = 0.0
        self.spent = Spent()

    @contextlib.contextmanager
    def host(self) -> Iterator[None]:
        """Times what Python and dispatch cost for one step."""
        started = time.perf_counter()
        yield
        self._host.append(time.perf_counter() - started)

    @contextlib.contextmanager
    def pause(self, place: str) -> Iterator[None]:
        """Time that does not count as training. place: what it is spent on, evaluation or saving."""
        started = time.perf_counter()
        with self.spent.on(place):
            yield
        self._paused += time.perf_counter() - started

    def waited(self, seconds: float) -> None:
        """Seconds that the replica has waited for data, in all."""
        self._waited = seconds

    def step(self, values: dict[str, float], images: int) -> None:
        """A step's metrics, as read from the device, and the images of its batch."""
        self._interval.append(values)
        self._steps += 1
        self._images += images
        self._skipped_samples += round(values["skipped_samples"] * images)
        self._skipped_steps = int(values["skipped_steps"])
        if self._steps == _WARM_UP:
            self._clock, self._paused, self._waited_at_start = time.perf_counter(), 0.0, self._waited
            self._images_at_start = self._images
            self._mark = (self._steps, self._images, 0.0)
        elapsed = self._elapsed()
        since = elapsed - self._mark[2]
        if self._steps - self._mark[0] >= 5 and since > 0:
            self.images_per_second = (self._images - self._mark[1]) / since
            if since > 2.0:
                self._mark = (self._steps, self._images, elapsed)

    @property
    def images(self) -> int:
        """That have been trained on, over all starts."""
        return self._images

    def interval(self) -> dict[str, Any]:
        """Means of loss and accuracy since the last call, the last learning rate, norms, speed, skips, and on what all
        seconds of the run were spent."""
        rows, self._interval = self._interval, []
        last = rows[-1]
        mean = {
            name: statistics.fmean(r[name] for r in rows)
            for name in ("loss", "top1", "grad_norm", "gradient_error")
            if name in last
        }
        return {
            **mean,
            "lr": last["lr"],
            "images_per_second": round(self.images_per_second, 2),
            "host_ms_per_step": round(self._host_ms(), 3),
            "data_wait_fraction": round(self._data_wait(), 4),
            "skipped_steps": self._skipped_steps,
            "skipped_samples": self._skipped_samples,
            "spent": self.spent.seconds(),
        }

    def totals(self) -> dict[str, float]:
        """Speed and shares over the whole run, after the warm-up of each start."""
        images, seconds, waited = self._counted()
        return {
            "images_per_second": round(images / seconds if images and seconds > 0 else 0.0, 2),
            "host_ms_per_step": round(self._host_ms(), 3),
            "data_wait_fraction": round(min(1.0, waited / seconds) if seconds > 0 else 0.0, 4),
            "skipped_steps": self._skipped_steps,
            "train_skipped_samples": self._skipped_samples,
        }

    def state(self) -> dict[str, Any]:
        """All that is to go on in a later start, fit for a checkpoint."""
        images, seconds, waited = self._counted()
        return {
            "images": self._images,
            "counted_images": images,
            "counted_seconds": seconds,
            "waited_seconds": waited,
            "skipped_samples": self._skipped_samples,
            "skipped_steps": self._skipped_steps,
            "interval": [dict(row) for row in self._interval],
            "spent": self.spent.seconds(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` said."""
        self._images = self._images_at_start = state["images"]
        self._before = (state["counted_images"], state["counted_seconds"], state["waited_seconds"])
        self._skipped_samples, self._skipped_steps = state["skipped_samples"], state["skipped_steps"]
        self._interval = [{name: number(value) for name, value in row.items()} for row in state["interval"]]
        self.spent.add(state.get("spent", {}))  # which checkpoints of before have not

    def _counted(self) -> tuple[int, float, float]:
        """Images, seconds and seconds waited for data after warm-ups, over all starts."""
        images, seconds, waited = self._before
        if self._steps <= _WARM_UP:
            return images, seconds, waited
        here = self._images - self._images_at_start, self._elapsed(), self._waited - self._waited_at_start
        return images + here[0], seconds + here[1], waited + here[2]

    def _elapsed(self) -> float:
        return 0.0 if self._clock is None else time.perf_counter() - self._clock - self._paused

    def _host_ms(self) -> float:
        times = self._host[_WARM_UP:] or self._host
        return 1e3 * statistics.median(times) if times else 0.0

    def _data_wait(self) -> float:
        elapsed = self._elapsed()
        return min(1.0, (self._waited - self._waited_at_start) / elapsed) if elapsed > 0 else 0.0
