"""What the machines of a slice say of themselves, compared: which one is not as the others, or not as it should be."""

from __future__ import annotations

from typing import Any

from xlatrain.launching.answer import Answer
from xlatrain.version import VERSION
from xlatrain.words import ranges


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
