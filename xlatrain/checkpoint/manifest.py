"""What a checkpoint says of itself: manifest.json, written last, so that where one stands all else does.

format, version   what this is
step              optimizer steps done
bytes, sha256     of state.safetensors
layout, versions, config, progress, ...   whatever the run wants to know again; see docs/checkpoints.md
check             SHA-256 of all that, so that a flipped bit in a number is found too
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Any

TENSORS, MANIFEST = "state.safetensors", "manifest.json"
_FORMAT, VERSION = "xlatrain checkpoint", 1
MOST_BYTES = 64 << 20  # a manifest of more is none
_NAME = re.compile(r"step-(\d{9,18})")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class DamagedError(Exception):
    """A checkpoint cannot be used; the message says what is wrong with it."""


class MissingError(DamagedError):
    """A file of it is not there."""


@dataclass(frozen=True)
class Manifest:
    """step: optimizer steps done. bytes, sha256: of the file of tensors. facts: the rest, by name."""

    step: int
    bytes: int
    sha256: str
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        return name_of(self.step)

    def to_json(self) -> bytes:
        """Numbers that are not finite, which JSON has not, become "nan", "inf" and "-inf"."""
        head = {"format": _FORMAT, "version": VERSION, "step": self.step, "bytes": self.bytes, "sha256": self.sha256}
        content = {**head, **_spelled(self.facts)}
        return (json.dumps(content | {"check": _digest(content)}, indent=1, allow_nan=False) + "\n").encode()

    @classmethod
    def parse(cls, text: bytes, name: str) -> Manifest:
        """The manifest of the checkpoint of that name. Raises DamagedError."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"{MANIFEST} is no JSON: {type(error).__name__}") from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise DamagedError(f"{MANIFEST} is not one of an {_FORMAT}")
        if content.get("version") != VERSION:
            found = str(content.get("version"))[:20]
            raise DamagedError(f"{MANIFEST} is of version {found}, and this xlatrain reads version {VERSION}")
        check = content.pop("check", None)
        if check != _digest(content):
            raise DamagedError(f"{MANIFEST} was changed after it was written: its own checksum does not fit")
        step, size, sha256 = (content.pop(key, None) for key in ("step", "bytes", "sha256"))
        numbers = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in (step, size))
        if not numbers or not isinstance(sha256, str) or not _DIGEST.fullmatch(sha256):
            raise DamagedError(f"{MANIFEST} has no step, bytes and sha256 as they should be")
        if name_of(step) != name:
            raise DamagedError(f"{MANIFEST} is of step {step}")
        del content["format"], content["version"]
        return cls(step, size, sha256, content)


def name_of(step: int) -> str:
    """The folder of a checkpoint: sorted by name they are sorted by step."""
    return f"step-{step:09d}"


def step_of(name: str) -> int | None:
    """The step of a checkpoint's folder; None where the name is no such folder's."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and name_of(int(match[1])) == name else None


def number(value: float | str) -> float:
    """A number as it was before to_json spelled it."""
    return float(value) if isinstance(value, str) else value


def _spelled(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _spelled(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
