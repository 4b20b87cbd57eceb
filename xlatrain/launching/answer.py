"""What gcloud and the machines say, read: the state of a queued resource, and the lines of JSON of each machine."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MARK = "xlatrain-worker: "  # before the line that a machine answers by

# States of a queued resource (tpu_v2alpha1 QueuedResourceState), and GONE, which is ours: there is none.
ACTIVE, SUSPENDING, SUSPENDED, FAILED, DELETING = "ACTIVE", "SUSPENDING", "SUSPENDED", "FAILED", "DELETING"
WAITING = ("CREATING", "ACCEPTED", "PROVISIONING", "WAITING_FOR_RESOURCES")
ENDED = (SUSPENDING, SUSPENDED, FAILED)  # nothing but deleting it helps
GONE = "GONE"
UNKNOWN = "UNKNOWN"  # gcloud could not say
_LONGEST = 240  # characters of its error


@dataclass(frozen=True)
class Answer:
    """Of a command. workers: what each machine wrote, by its number, where that was kept apart."""

    code: int
    out: str = ""
    err: str = ""
    workers: Mapping[int, str] = field(default_factory=dict)

    @property
    def last_words(self) -> str:
        """What went wrong, in a line: of gcloud's error its first sentences, else the last line."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        first = next((n for n, line in enumerate(lines) if line.startswith("ERROR")), len(lines) - 1)
        if not lines:
            return f"exit code {self.code}"
        text = re.sub(r"^ERROR: (\(gcloud[^)]*\) )?", "", " ".join(lines[first:]))
        return text if len(text) <= _LONGEST else text[:_LONGEST].rpartition(" ")[0] + " …"

    @property
    def of_workers(self) -> dict[int, dict[str, Any]]:
        """What each machine answered; those that did not are not in it."""
        found = {}
        for number, text in self.workers.items():
            for line in text.splitlines():
                if line.startswith(MARK):
                    with contextlib.suppress(ValueError):  # torn, as the connection broke
                        found[number] = json.loads(line.removeprefix(MARK))
        return found


@dataclass(frozen=True)
class State:
    """Of a queued resource. said: why, where gcloud says so."""

    name: str
    said: str = ""


def state_of(answer: Answer) -> State:
    """The state in what `describe` says."""
    if answer.code:
        missing = re.search(r"^ERROR: \(gcloud\..*(NOT_FOUND|Not Found|was not found)", answer.err, re.M)
        return State(GONE) if missing else State(UNKNOWN, answer.last_words)
    try:
        found = json.loads(answer.out)["state"]
        failed = found.get("failedData", {}).get("error", {}).get("message", "")
        return State(found["state"], failed)
    except (ValueError, KeyError, TypeError, AttributeError):
        return State(UNKNOWN, answer.out.strip()[:200])


def is_quota(text: str) -> bool:
    """Whether a refusal is for want of quota, which no waiting gives."""
    return bool(re.search(r"quota", text, re.I))


def is_passing(text: str) -> bool:
    """Whether a refusal is for want of Google's service, or of the way to it, and not of what was asked for."""
    away = r"UNAVAILABLE|INTERNAL\b|DEADLINE_EXCEEDED|no end after|unreachable|[Cc]onnection (?:refused|reset|aborted)"
    return bool(re.search(away, text))


def is_taken(text: str) -> bool:
    """Whether a refusal is since there are machines of that name."""
    return bool(re.search(r"ALREADY_EXISTS|already exists", text, re.I))


def is_capacity(text: str) -> bool:
    """Whether a refusal is for want of machines, which others may give back."""
    return bool(
        re.search(r"no more capacity|not enough resources|RESOURCE_EXHAUSTED|stockout|try again later", text, re.I)
    )
