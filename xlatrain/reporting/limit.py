"""What limits a run, by where its time went, and which option to turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xlatrain.engine.spent import COMPILE, DATA, DEVICE, EVALUATION, HOST, SAVING, STARTING

STEPS = (DATA, DEVICE, HOST)  # what the time of the training loop goes into

# What each is called in a sentence.
WORDS = {
    STARTING: "starting the replicas",
    COMPILE: "compiling",
    DATA: "waiting for data",
    DEVICE: "the device",
    HOST: "Python on the host",
    EVALUATION: "evaluation",
    SAVING: "saving",
}


@dataclass(frozen=True)
class Limit:
    """place: what limits, of spent.PLACES. share: its part of the time looked at. option: to be turned, as it is typed,
    "" where there is none. advice: what it does, or what else helps."""

    place: str
    share: float
    option: str
    advice: str


def limit_of_steps(spent: Mapping[str, float], options: Mapping[str, Any]) -> Limit | None:
    """What limits the steps of the training loop; None where none was taken."""
    return _largest({place: spent.get(place, 0.0) for place in STEPS}, options)


def limit_of_run(spent: Mapping[str, float], options: Mapping[str, Any]) -> Limit | None:
    """What took most of the wall time; None where it is not known."""
    return _largest(spent, options)


def sentences(spent: Mapping[str, float], options: Mapping[str, Any]) -> list[str]:
    """What limits a run: of its steps, then of all its time where that is something else."""
    steps, whole = limit_of_steps(spent, options), limit_of_run(spent, options)
    found = []
    if steps:
        found.append(f"Steps are limited by {WORDS[steps.place]}: {steps.share:.0%} of their time. {_cure(steps)}")
    if whole and (steps is None or whole.place != steps.place):
        found.append(f"Of the whole run most went into {WORDS[whole.place]}, {whole.share:.0%}. {_cure(whole)}")
    return found


def _cure(limit: Limit) -> str:
    return f"`{limit.option}`: {limit.advice}." if limit.option else f"{limit.advice[0].upper()}{limit.advice[1:]}."


def _largest(seconds: Mapping[str, float], options: Mapping[str, Any]) -> Limit | None:
    total = sum(seconds.values())
    if total <= 0:
        return None
    place = max(seconds, key=lambda name: seconds[name])
    return Limit(place, seconds[place] / total, *_TURN[place](options))


def _data(options: Mapping[str, Any]) -> tuple[str, str]:
    root, workers = options.get("data.root"), options.get("data.workers")
    if "://" in str(root) and options.get("data.cache") is None:
        return "data.cache=FOLDER", "keeps what is read from afar on this machine"
    if isinstance(workers, int):
        more = max(2, 2 * workers)
        bench = "; what a host can prepare, and what slows it, `xlatrain data bench` says"
        return f"data.workers={more}", f"more processes that read and decode, it had {workers}{bench}"
    return "", "make the data set itself faster: its samples are read by one thread"


def _device(options: Mapping[str, Any]) -> tuple[str, str]:
    if options.get("cluster.platform") == "cpu":
        size = options.get("data.image_size")
        return "data.image_size", f"fewer pixels than {size}, or a smaller model; a CPU only rehearses"
    if options.get("precision.name") == "fp32":
        return "precision=bf16", "the chip computes products of bf16 at several times the rate"
    return "cluster", "a larger slice; this is as it should be: the chip is what is paid for"


def _host(options: Mapping[str, Any]) -> tuple[str, str]:
    if options.get("engine.replay") is False:
        return "engine.replay=true", "it traces every step anew, which is for debugging"
    if options.get("train.log_every") == "1step":
        return "train.log_every=10step", "it writes a line after every step"
    if options.get("engine.in_flight") == 1 and options.get("cluster.platform") != "cpu":
        return "engine.in_flight=2", "the device has the next step while Python reads what the last one said"
    batch = options.get("train.global_batch")
    return "train.global_batch", f"larger than {batch}: a step costs Python the same, whatever is in it"


def _compile(options: Mapping[str, Any]) -> tuple[str, str]:
    if options.get("engine.runtime") == "jax":
        return "train.duration", "a longer run; a second one of the same options compiles nothing"
    return "engine.runtime=jax", "it keeps what it compiled for the next start; in a longer run it matters less"


def _evaluation(options: Mapping[str, Any]) -> tuple[str, str]:
    return "train.eval_every", f"more seldom than {options.get('train.eval_every', 'now')}"


def _saving(options: Mapping[str, Any]) -> tuple[str, str]:
    return "checkpoint.every", f"more seldom than {options.get('checkpoint.every', 'now')}, or to a faster disk"


def _starting(options: Mapping[str, Any]) -> tuple[str, str]:
    return "train.duration", "a longer run: starting costs each the same"


_TURN = {
    STARTING: _starting,
    COMPILE: _compile,
    DATA: _data,
    DEVICE: _device,
    HOST: _host,
    EVALUATION: _evaluation,
    SAVING: _saving,
}
