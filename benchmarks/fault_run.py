"""A small run that is to be disturbed: its data, its starts by the real command line, its processes, its disks."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
STEPS, EVERY, EVALUATE, SIZE = 60, 10, 25, 24  # steps of the run, between two saves, between two evaluations; pixels
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
