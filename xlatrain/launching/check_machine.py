"""What a machine has, and what is wrong with it, before a run is started there."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlatrain.engine.provenance import versions
from xlatrain.errors import Fault
from xlatrain.preflight.writable import store_faults


def check_machine(folder: str, words: Sequence[str]) -> dict[str, Any]:
    """Versions, the doctor's failures, and whether copies can be written to a folder, "" for none. words: overrides."""
    command = [sys.executable, "-m", "xlatrain", "doctor", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        findings = json.loads(done.stdout)["findings"]
    except ValueError:
        findings = [{"check": "doctor", "status": "failed", "text": done.stderr.strip()[-2000:], "cure": ""}]
    failed = [f for f in findings if f["status"] == "failed"]
    faults = _folder_faults(folder) if folder else []
    failed += [{"check": fault.key, "text": fault.problem, "cure": fault.cure} for fault in faults]
    return {"host": socket.gethostname(), "versions": versions(), "failed": failed}


def _folder_faults(folder: str) -> list[Fault]:
    if "://" not in folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    return store_faults("launch.folder", folder if "://" in folder else f"file://{folder}")
