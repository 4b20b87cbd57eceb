"""Notices of preemption and maintenance by the metadata server of a Google Compute Engine instance, the TPU VMs among
them. Not tried on one: tests have a server of their own.

Keys and values are those of Google's documents of Compute Engine and Cloud TPU. That TPU VMs give the same notices, and
30 s for a spot one, is assumed. `maintenance-event` gives its warning only to those who ask for it again and again.
`upcoming-maintenance` tells of a window up to seven days ahead: a run goes on until the maintenance is under way.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

_HOST = "GCE_METADATA_HOST"  # the variable that Google's own libraries have for another server, host:port
_OFF = "NO_GCE_CHECK"  # and theirs for none
_ADDRESS = "169.254.169.254"  # a machine without a network answers at once that there is no way to it
_EVERY = 5.0  # seconds
_TIMEOUT = 2.0
# What a key says when the machine is about to go. It may also say that it will be moved as it runs, which harms nobody.
_MAINTENANCE = "a notice of maintenance"
_GOING = {
    "preempted": ("TRUE", "a notice of preemption"),
    "maintenance-event": ("TERMINATE_ON_HOST_MAINTENANCE", _MAINTENANCE),
    "upcoming-maintenance": ("ONGOING", _MAINTENANCE),
}
# A key that has keys of its own; whether it is spelled so or as the API's fields are, maintenanceStatus, differs.
_PARTS = {"upcoming-maintenance": ("maintenance_status", "maintenanceStatus")}


@contextlib.contextmanager
def polled(tell: Callable[[str], None], every: float = _EVERY) -> Iterator[threading.Thread]:
    """Within, ask the metadata server again and again, and tell of the first notice. Does nothing where no such server
    answers when it begins. Yields the thread that does it."""
    ended = threading.Event()
    thread = threading.Thread(target=_poll, args=(tell, every, ended), daemon=True, name="notices")
    thread.start()
    try:
        yield thread
    finally:
        ended.set()


def _poll(tell: Callable[[str], None], every: float, ended: threading.Event) -> None:
    if os.environ.get(_OFF, "").lower() in ("1", "true") or _ask("preempted") is None:
        return
    while True:
        for key, (going, words) in _GOING.items():
            if _read(key, _ask(key)) == going:
                tell(words)
                return
        if ended.wait(every):
            return


def _read(key: str, answer: str | None) -> str | None:
    """What an answer comes to: itself, or of a key that has keys of its own the one that counts."""
    if key not in _PARTS or not answer:
        return answer
    try:
        parts = json.loads(answer)
    except ValueError:
        return None
    named = (parts.get(name) for name in _PARTS[key]) if isinstance(parts, dict) else ()
    return next((value for value in named if value), None)


def _ask(key: str) -> str | None:
    """What the server says of a key of the instance, "" where it has none; None where it is not Google's, or nobody
    answers."""
    host = os.environ.get(_HOST) or _ADDRESS
    whole = "?alt=json&recursive=true" if key in _PARTS else ""
    request = urllib.request.Request(f"http://{host}/computeMetadata/v1/instance/{key}{whole}")
    request.add_header("Metadata-Flavor", "Google")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has a server of its own, or none
    try:
        with opener.open(request, timeout=_TIMEOUT) as answer:
            return answer.read(2000).decode().strip() if answer.headers.get("Metadata-Flavor") == "Google" else None
    except urllib.error.HTTPError as error:
        return "" if error.headers.get("Metadata-Flavor") == "Google" else None
    except (OSError, ValueError):
        return None
