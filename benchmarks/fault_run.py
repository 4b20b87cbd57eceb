"""A small run that is to be disturbed: its data, its starts by the real command line, its processes, what it left."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
STEPS, EVERY, EVALUATE, SIZE = 60, 10, 25, 24  # steps of the run, between two saves, between two evaluations; pixels
TIMES = {"images_per_second", "host_ms_per_step", "data_wait_fraction"}
SETTINGS = {
    "torch_xla": ["engine.runtime=torch_xla"],
    "jax": ["engine.runtime=jax"],
    "jax, 2 processes": ["engine.runtime=jax", "cluster.processes_per_host=2"],
}
SHARES = [4, 4, 1]
RUN = [
    *("data=shards", f"data.image_size={SIZE}", "data.streams=4", "data.shuffle_window=32", "data.eval_padding=0"),
    *("augment=shift_flip", "augment.mixup=0.2", "augment.erase=0.3"),
    *("model._target_=tests.nets.Small", "+model.kwargs.drop=0.2", "model.sync_bn_group=local", "ema=on"),
    *("optimizer.lr=0.02", "train.global_batch=16", f"train.duration={STEPS}step", "train.log_every=1step"),
    *(f"train.eval_every={EVALUATE}step", "eval.global_batch=16", f"checkpoint.every={EVERY}step", "checkpoint.keep=3"),
    *("cluster.replicas=2", "engine.strict=true", "run.name=r"),
]


class WrongError(Exception):
    """The run did not do what it should have."""


def write_shards_of_noise(root: Path) -> None:
    """train/ of 96 and val/ of 48 small pictures, whose label can be seen in them."""
    from xlatrain.data.shard_format import write_shards

    draw = np.random.default_rng(0)
    for split, count in (("train", 96), ("val", 48)):
        samples = []
        for number in range(count):
            pixels = draw.integers(0, 120, (SIZE, SIZE, 3), np.uint8)
            pixels[: 2 * (number % 10) + 2] += 100
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            samples.append((f"{split}-{number:03}", "png", buffer.getvalue(), number % 10))
        write_shards(root / split, samples, [str(c) for c in range(10)], samples_per_shard=24)


@dataclass
class Start:
    """A start of the command. code: its exit code, once it has ended, below 0 for a signal."""

    pid: int
    output: tuple[Path, ...]
    poll: Callable[[], int | None]

    def wait(self, seconds: float) -> int:
        """Raises WrongError where it goes on for longer."""
        until = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise WrongError(f"the command goes on after {seconds:.0f} s")
            time.sleep(0.01)
        return code

    def said(self) -> str:
        return "".join(path.read_text(errors="replace") for path in self.output if path.exists())


@dataclass
class Place:
    """Where one run is disturbed: a folder of its own, with data, temporary files and runs. warm: processes are forked
    from a server that has imported torch (tests/warm.py)."""

    folder: Path
    setting: str
    warm: bool
    cache: Path
    workers: int = 0
    more: list[str] = field(default_factory=list)
    mounts: list[Path] = field(default_factory=list)
    starts: int = 0

    def __post_init__(self) -> None:
        for folder in (self.cwd, self.temporary):
            folder.mkdir(parents=True)

    @property
    def cwd(self) -> Path:
        return self.folder / "here"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def run(self) -> Path:
        return self.cwd / "runs/r"

    @property
    def checkpoints(self) -> Path:
        given = [o.partition("=")[2] for o in self.more if o.startswith("checkpoint.folder=")]
        return Path(given[0]) / "r" if given else self.run / "checkpoints"

    def begin(self, *overrides: str) -> Start:
        """`xlatrain train`, in a process of its own."""
        self.starts += 1
        command = [
            *("train", *RUN, f"data.root={self.data}", f"data.workers={self.workers}"),
            *(*SETTINGS[self.setting], *self.more, *overrides),
        ]
        environment = {"TMPDIR": str(self.temporary), "XDG_CACHE_HOME": str(self.cache), "NO_GCE_CHECK": "true"}
        environment |= {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
        environment |= {"PYTHONPATH": str(ROOT)}
        if self.warm:
            from tests import warm

            running = warm.command(*command, cwd=self.cwd, environment=environment)
            output = self.cwd.with_suffix(".out"), self.cwd.with_suffix(".err")
            return Start(running.pid, output, lambda: running.returncode)
        output = self.folder / f"said-{self.starts}"
        with output.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "xlatrain", *command],
                cwd=self.cwd, env={**os.environ, **environment}, stdout=file, stderr=file,
            )  # fmt: skip
        return Start(process.pid, (output,), process.poll)

    def processes(self) -> dict[int, int]:
        """Processes that have this place as theirs, and their parents, by /proc."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(path / "cwd") == str(self.cwd):
                    found[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        return found

    def replicas(self) -> list[int]:
        """Processes of replicas, by their heartbeats."""
        here = self.processes()
        return [pid for path in self.run.glob("heartbeats/*.json") if (pid := int(path.stem.split("-")[-1])) in here]

    def loaders(self) -> list[int]:
        """Workers that decode: a server that a process of replicas has started forks them."""
        here, replicas = self.processes(), set(self.replicas())
        return [pid for pid, parent in here.items() if here.get(parent) in replicas and parent not in replicas]

    def steps_logged(self) -> int:
        """Training steps in metrics.jsonl."""
        try:
            content = (self.run / "metrics.jsonl").read_bytes()
        except OSError:
            return 0
        return content.count(b'{"kind": "train"')

    def mount(self, folder: Path, size: str) -> None:
        """Put a small disk of memory (tmpfs) there."""
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)
        self.mounts.append(folder)

    @contextlib.contextmanager
    def read_only(self, folder: Path) -> Iterator[None]:
        """Within, the folder is mounted so that nobody can write to it."""
        subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
            yield
        finally:
            subprocess.run(["umount", str(folder)], check=True)

    def clear(self) -> None:
        """End what is left of it, and remove it."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        for folder in reversed(self.mounts):
            subprocess.run(["umount", "-l", str(folder)], check=False)
        subprocess.run(["chmod", "-R", "u+w", str(self.folder)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


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


def newest_sound(place: Place, whole: Whole) -> int | None:
    """The newest checkpoint that is complete and undamaged, told without asking xlatrain: its tensors have the bits of
    the run that nobody disturbed, and its manifest has the checksum of itself and of them."""
    for step, path in reversed(checkpoints(place.checkpoints).items()):
        try:
            content = json.loads((path / "manifest.json").read_bytes())
            check = content.pop("check")
            own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
            sha = digest(path / "state.safetensors")  # of a step where it was stopped nobody else has it
            if check == own and content["sha256"] == sha == whole.states.get(step, sha):
                return step
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


def differences(place: Place, whole: Whole) -> list[str]:
    """What a run that came to its end has otherwise than the one that nobody disturbed; and what is doubled."""
    found = []
    last = checkpoints(place.checkpoints).get(STEPS)
    if last and digest(last / "state.safetensors") != whole.states[STEPS]:
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
