"""The learning rate range test (Smith, arXiv:1506.01186, sec. 3.3): the rate grows by a constant factor each step, and
where the loss falls fastest is a rate to train with. One compile: the rates are a table that the step reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from xlatrain.data.order import Position
from xlatrain.engine.build import TrainProgram, build_phase_model, open_train_loader
from xlatrain.engine.contract import TrainMetrics
from xlatrain.engine.progress import ProgressLine
from xlatrain.engine.run import placement
from xlatrain.preflight.checked import CheckedRun
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.feed import DeviceFeed
from xlatrain.xla.replica import Replica

_SMOOTHED = 0.9  # share of what was before, in the smoothed loss
_EXPLODED = 4.0  # times the lowest smoothed loss
_SETTLED = 10  # steps before which nothing is made of the curve
_FALLS = 0.02  # of the loss: less is noise


@dataclass(frozen=True)
class Curve:
    """What a range test saw, a value for each step taken. exploded: it ended there, before its last rate. fastest:
    where the smoothed loss falls fastest by the logarithm of the rate; lowest: where it is lowest; None where it does
    not fall. suggested: the smaller of fastest and a tenth of lowest."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    exploded: bool
    fastest: float | None = None
    lowest: float | None = None
    suggested: float | None = None


def growing_rates(low: float, high: float, steps: int) -> list[float]:
    """From low to high, each so many times the one before."""
    return [low * (high / low) ** (i / (steps - 1)) for i in range(steps)]


def find_curve(run: CheckedRun, rates: Sequence[float]) -> Curve:
    """Train a checked run of as many steps as there are rates, with these, on its replicas. Raises ReplicaError."""
    from xlatrain.xla.launch import launch

    losses = launch("xlatrain.engine.range_test:train_through", run, list(rates), **placement(run.config))
    return judge(list(rates), losses)


def train_through(replica: Replica, run: CheckedRun, rates: list[float]) -> list[float]:
    """The loss before the update of each step, up to the one that explodes. Runs on every replica; all see the same."""
    phase, losses = run.phases[0], []
    with ProgressLine(len(rates), silent=not replica.is_first) as progress:
        model = replica.shared("model", lambda: build_phase_model(run, phase, replica))
        program = TrainProgram(run, model)
        step = CapturedStep(program.step, replica, "train step", report=progress.say, strict=True)
        state = replica.to_device(program.carry(replica.ordinal))
        tables = replica.to_device({**program.tables(), "lr": torch.tensor(rates)})
        loader = replica.shared("train-loader", lambda: open_train_loader(run, replica, Position()))
        feed = DeviceFeed(loader, replica)
        watch = _Watch()
        for rate, batch in zip(rates, feed, strict=False):
            state, outputs = step(state, {**batch, **tables})
            losses.append(TrainMetrics.read(replica.to_host(outputs))["loss"])
            done = len(losses)
            progress.step(done, f"lr {rate:.3g}  loss {losses[-1]:.4f}", print_line=done % 25 == 0)
            if watch.explodes(losses[-1]):
                progress.say(f"the loss explodes at lr {rate:.3g}: {losses[-1]:.4g}")
                break
        feed.close()
    return losses


class _Watch:
    """Losses as they come, smoothed: a moving average, corrected for its beginning."""

    def __init__(self) -> None:
        self._seen, self._mean, self._lowest = 0, 0.0, math.inf

    def smoothed(self, loss: float) -> float:
        """The next loss, smoothed."""
        self._seen += 1
        self._mean = _SMOOTHED * self._mean + (1 - _SMOOTHED) * loss
        found = self._mean / (1 - _SMOOTHED**self._seen)
        self._lowest = min(self._lowest, found)
        return found

    def explodes(self, loss: float) -> bool:
        """Whether the next loss is none, or smoothed far above the lowest."""
        found = self.smoothed(loss)
        return not math.isfinite(loss) or (self._seen > _SETTLED and found > _EXPLODED * self._lowest)


def smooth(losses: Sequence[float]) -> list[float]:
    """All of them smoothed."""
    return [*map(_Watch().smoothed, losses)]


def explodes(losses: Sequence[float]) -> bool:
    """Whether the last of them explodes."""
    return [*map(_Watch().explodes, losses)][-1]


def judge(rates: Sequence[float], losses: Sequence[float]) -> Curve:
    """What a curve says. rates: all that were to be tried; losses: those that were."""
    exploded = explodes(losses)
    seen = [loss for loss in losses if math.isfinite(loss)]
    smoothed, tried = smooth(seen), list(rates[: len(seen)])
    plain = Curve(tuple(tried), tuple(seen), tuple(smoothed), exploded)
    lowest = min(range(len(seen)), key=smoothed.__getitem__, default=0)
    reach = max(1, len(rates) // 40)  # of a slope, to either side
    inner = range(max(_SETTLED, reach), min(lowest, len(seen) - reach - 1) + 1)
    slopes = {i: smoothed[i + reach] - smoothed[i - reach] for i in inner}
    if not slopes or smoothed[lowest] > (1 - _FALLS) * smoothed[inner.start]:
        return plain
    fastest = tried[min(slopes, key=slopes.__getitem__)]
    suggested = float(f"{min(fastest, tried[lowest] / 10):.2g}")
    return Curve(plain.rates, plain.losses, plain.smoothed, exploded, fastest, tried[lowest], suggested)
