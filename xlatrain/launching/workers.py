"""What the machines of a slice say of themselves, compared: which one is not as the others, or not as it should be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xlatrain.errors import EXIT_DONE
from xlatrain.launching.answer import Answer
from xlatrain.version import VERSION
from xlatrain.words import ranges

_LONG = 30.0  # seconds in a step, more than looks at two machines are apart
_CALM = 600.0  # seconds between two lines about a run that goes on


def first_ended(said: dict[int, dict[str, Any]]) -> dict[str, Any] | None:
    """Of the workers that run no more the one that says most of why, with its number as worker: worker 0 if it is done,
    since all is written then; one that failed before another that is done, one that has an exit code before one that is
    gone."""
    ended = {n: worker for n, worker in said.items() if worker["state"] != "running"}
    if not ended:
        return None
    if ended.get(0, {}).get("code") == EXIT_DONE:
        return {**ended[0], "worker": 0}
    first = min(ended, key=lambda n: (ended[n]["state"] != "ended", ended[n].get("code") == EXIT_DONE, n))
    return {**ended[first], "worker": first}


def slow(said: dict[int, dict[str, Any]]) -> dict[int, str]:
    """What to say of workers that have long been in an earlier step than others, by their numbers."""
    far = max((worker.get("step", 0) for worker in said.values()), default=0)
    late = {n: w for n, w in sorted(said.items()) if w.get("step", 0) < far and w.get("idle", 0.0) >= _LONG}
    return {n: f"behind: in step {w['step']:,}, others in {far:,}" for n, w in late.items()}


class Progress:
    """What is worth a line while a run goes on: its step, less and less often, and each worker that is not well, seen
    twice: one that is just ending is not sick. every: seconds to the second line."""

    def __init__(self, every: float):
        self._every, self._step, self._at, self._seen, self._told = every, -1, 0.0, "", ""

    def lines(self, said: dict[int, dict[str, Any]], hosts: int, now: float) -> Iterator[str]:
        step = max(worker.get("step", 0) for worker in said.values())
        if self._step < 0 or (step > self._step and now - self._at >= self._every):
            if self._step >= 0:
                self._every = min(2 * self._every, _CALM)
            self._step, self._at = step, now
            yield f"step {step:,}"
        sick = [f"worker {n}: {text}" for n, worker in sorted(said.items()) for text in worker.get("sick", ())]
        sick += [f"worker {n}: {text}" for n, text in slow(said).items()]
        if silent := sorted(set(range(hosts)) - set(said)):
            sick.append(f"worker {ranges(silent)}: no answer")
        seen, self._seen = self._seen, "; ".join(sick)
        if self._seen == seen != self._told:
            self._told = seen
            yield seen or "all workers are well again"


def who(answer: Answer) -> str:
    """Which workers say what; of those that failed, as gcloud names them, else the last words of all."""
    failed = {n: text for n, text in answer.workers.items() if f"worker {n} failed" in answer.err}
    lines = [f"worker {n}: {(text.strip().splitlines() or ['nothing'])[-1]}" for n, text in sorted(failed.items())]
    return "; ".join(lines) or answer.last_words


def other_versions(said: dict[int, dict[str, Any]]) -> list[str]:
    """Workers that have something in another version than this computer's xlatrain, or than most of them."""
    found = []
    for name in said[0]["versions"]:
        numbers = [worker["versions"].get(name) for worker in said.values()]
        usual = VERSION if name == "xlatrain" else max(sorted(set(numbers), key=str), key=numbers.count)
        odd = {n: worker["versions"].get(name) for n, worker in said.items() if worker["versions"].get(name) != usual}
        found += [f"worker {n} has {name} {number}, not {usual}" for n, number in odd.items()]
    return found


def failures(said: dict[int, dict[str, Any]]) -> list[str]:
    """What is wrong with machines; what is with several of them, once."""
    workers: dict[tuple[str, str], list[int]] = {}
    for n, worker in sorted(said.items()):
        for f in worker["failed"]:
            workers.setdefault((f"{f['check']}: {f['text']}", f["cure"]), []).append(n)
    told = {f"{text}; cure: {cure}" if cure else text: numbers for (text, cure), numbers in workers.items()}
    return [f"worker {ranges(numbers)}: {text}" for text, numbers in told.items()]
