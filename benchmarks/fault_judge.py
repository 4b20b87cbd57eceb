"""What a run that was disturbed should be in the end: judged by one that nobody disturbed."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fault_run import EVALUATE, STEPS, Place

TIMES = {"images_per_second", "host_ms_per_step", "data_wait_fraction", "spent"}


@dataclass(frozen=True)
class Whole:
    """What the run that nobody disturbed has left. states: SHA-256 of each checkpoint's tensors, by step."""

    states: dict[int, str]
    weights: dict[str, str]
    lines: list[dict]

    @classmethod
    def of(cls, place: Place) -> Whole:
        return cls(
            {step: digest(path / "state.safetensors") for step, path in checkpoints(place.checkpoints).items()},
            {path.name: digest(path) for path in sorted(place.run.glob("*.safetensors"))},
            numbers(place.run),
        )


def checkpoints(folder: Path) -> dict[int, Path]:
    """The folders of checkpoints by their steps."""
    return {int(path.name.removeprefix("step-")): path for path in sorted(folder.glob("step-*"))}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def numbers(run: Path) -> list[dict]:
    """Lines of training and evaluation, but for their times."""
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows if row["kind"] != "event"]


def summary(place: Place) -> dict:
    """What the run says of its last start; nothing where that said nothing."""
    try:
        return json.loads((place.run / "summary.json").read_text())
    except (OSError, ValueError):
        return {}


def known(whole: Whole, step: int, equal: bool, sha: str) -> str:
    """The SHA-256 of the tensors of a step. sha: as they are, which nobody else has where it was stopped in a step,
    or before an evaluation made statistics equal."""
    evaluates = step % EVALUATE == 0 or step == STEPS
    return whole.states.get(step, sha) if equal or not evaluates else sha


def newest_sound(place: Place, whole: Whole) -> int | None:
    """The newest checkpoint that is complete and undamaged, told without asking xlatrain: its tensors have the bits of
    the run that nobody disturbed, and its manifest has the checksum of itself and of them."""
    for step, path in reversed(checkpoints(place.checkpoints).items()):
        try:
            content = json.loads((path / "manifest.json").read_bytes())
            check = content.pop("check")
            own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
            sha = digest(path / "state.safetensors")
            if check == own and content["sha256"] == sha == known(whole, step, content["equal"], sha):
                return step
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


def equal(checkpoint: Path) -> bool:
    """Whether its statistics are those of all replicas."""
    return json.loads((checkpoint / "manifest.json").read_text())["equal"]


def differences(place: Place, whole: Whole) -> list[str]:
    """What a run that came to its end has otherwise than the one that nobody disturbed; and what is doubled."""
    found = []
    last = checkpoints(place.checkpoints).get(STEPS)
    if last and (sha := digest(last / "state.safetensors")) != known(whole, STEPS, equal(last), sha):
        found.append("the last checkpoint has other bits")
    for name, sha in whole.weights.items():
        path = place.run / name
        if not path.exists() or digest(path) != sha:
            found.append(f"{name} has other bits" if path.exists() else f"{name} is missing")
    lines = numbers(place.run)
    if [(r["kind"], r["step"]) for r in lines] != [(r["kind"], r["step"]) for r in whole.lines]:
        found.append(f"metrics.jsonl has {len(lines)} lines of training and evaluation, not {len(whole.lines)} in turn")
    else:
        pairs = zip(lines, whole.lines, strict=True)
        other = [f"{a['kind']} {a['step']}: {k} {a[k]}, not {b[k]}" for a, b in pairs for k in a if a[k] != b[k]]
        found += [f"metrics.jsonl has other numbers: {', '.join(other[:3])}"] if other else []
    steps = [json.loads(row)["step"] for row in (place.run / "metrics.jsonl").read_text().splitlines()]
    if steps != sorted(steps):
        found.append("metrics.jsonl is not in the order of its steps")
    return found


def left_behind(place: Place, shared: set[str]) -> list[str]:
    """What should be gone. shared: what /dev/shm held before."""
    found = [f"process {pid} is left" for pid in place.processes()]
    found += [f"{path.name} is left in TMPDIR" for path in place.temporary.iterdir()]
    found += [f"/dev/shm/{name} is left" for name in sorted(set(os.listdir("/dev/shm")) - shared)]
    drafts = [p for p in place.run.rglob("*") if p.name.endswith((".part", ".old"))]
    drafts += place.checkpoints.glob(".*")
    return found + [f"{path.relative_to(place.folder)} is left" for path in sorted(set(drafts))]


def damage(path: Path, draw: Random) -> str:
    """Cut a file short, flip one of its bits, or take it away; says what was done."""
    how = draw.choice(["cut", "flipped", "flipped", "removed"])
    if how == "removed":
        path.unlink()
        return "removed"
    size = path.stat().st_size
    if how == "cut":
        rest = draw.randrange(size)
        os.truncate(path, rest)
        return f"cut to {rest} of {size} bytes"
    at, bit = draw.randrange(size), draw.randrange(8)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))
    return f"bit {bit} of byte {at} flipped"
