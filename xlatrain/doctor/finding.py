"""What a check is given and what it gives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xlatrain.errors import Fault

OK, NOTE, FAILED, UNKNOWN = "ok", "note", "failed", "unknown"


@dataclass(frozen=True)
class Finding:
    """status: OK; NOTE, which is worth knowing and harms nothing; FAILED; or UNKNOWN, which cannot be seen here. cure:
    the command that mends it."""

    status: str
    text: str
    cure: str = ""


@dataclass(frozen=True)
class Machine:
    """What is looked at. root: under which /proc, /dev, /sys and /tmp lie. variables: the environment. metadata: the
    address of Google Cloud's metadata server."""

    root: Path = Path("/")
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)
    metadata: str = "http://metadata.google.internal"

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def names(self, pattern: str) -> list[str]:
        """The absolute names, as the machine has them, of what fits a pattern: "/dev/accel*"."""
        return sorted(f"/{path.relative_to(self.root)}" for path in self.root.glob(pattern.lstrip("/")))


def failed(fault: Fault) -> Finding:
    """A fault of the configuration as a finding."""
    return Finding(FAILED, f"{fault.key}: {fault.problem}", fault.cure)
