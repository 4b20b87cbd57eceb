"""The folder of a run: claimed for it, and its train.log. run.py, in the parent process, writes its config.yaml and
summary.json (cli/multirun.py of a job that failed before it began); metrics.py its metrics, checkpoints.py its
checkpoints, weights.py its weights."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from xlatrain.credentials import masked
from xlatrain.errors import ConfigError, Fault

logger = logging.getLogger("xlatrain")

LOCK = ".lock"  # held by the process of a run that is going on
PROFILE, OPS = "profile", "ops.json"  # a folder of it, and the table of dearest ops in that
_TEXT, _NUMBER = str, (int, float, type(None))
_SUMMARY = {  # types of what is read of a summary.json
    **dict.fromkeys(("status", "error", "stopped_by"), _TEXT),
    **dict.fromkeys(("top1", "top5", "loss", "images_per_second", "wall_seconds"), _NUMBER),
    "steps": int,
}
_SWEEP = "multirun.yaml"  # where Hydra writes a sweep's overrides down, as they are


def name_in(root: str, folder: Path) -> str:
    """The name of a run by its folder, as run.name has it: of a job of a sweep NAME/3."""
    return folder.resolve().relative_to(Path(root).resolve()).as_posix()


def read_summary(folder: Path) -> dict[str, Any]:
    """What a run's summary.json says; nothing where there is none, or none that can be read. What of it is of another
    type than a run writes is left out: it may be another program's."""
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return {}
    found = summary.items() if isinstance(summary, dict) else ()
    return {key: value for key, value in found if isinstance(value, _SUMMARY.get(key, object))}


def read_options(path: Path) -> dict[str, Any]:
    """The options that a config.yaml has, by their dotted keys, groups of them among them; none where it cannot be
    read."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return dict(_flat(content)) if isinstance(content, dict) else {}


def _flat(node: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows = []
    for key, value in node.items():
        rows.append((f"{prefix}{key}", value))
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
    return rows


@contextlib.contextmanager
def claimed_folder(root: str, name: str) -> Iterator[Path]:
    """Make the folder of a new run and hold it until the run ends. One that is there already is kept beside it as
    name.1, name.2, ...: nothing that was saved is ever lost. Raises ConfigError when a run holds it right now, or it
    cannot be made."""
    folder = Path(root) / name
    while True:
        _keep_aside(folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            break
        except FileExistsError:
            continue  # another run made it just now: it holds it, or it is kept aside in turn
        except OSError as error:
            raise ConfigError(
                Fault("run.root", f"{folder} cannot be made: {error}", "name a folder of yours")
            ) from None
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _masked_in_the_end(folder):
            yield folder.resolve()


@contextlib.contextmanager
def held_folder(folder: Path) -> Iterator[Path]:
    """Hold the folder of a run that is there already, to go on with it. The claim of a process that died is none.
    Raises ConfigError when a run holds it right now, or it cannot be written."""
    try:
        lock = (folder / LOCK).open("a")
    except OSError as error:
        raise ConfigError(
            Fault("run.name", f"{folder} cannot be gone on with: {error}", "name a folder of yours")
        ) from None
    with lock:
        _take(lock, folder)
        with _masked_in_the_end(folder):
            yield folder.resolve()


@contextlib.contextmanager
def _masked_in_the_end(folder: Path) -> Iterator[None]:
    """Within, Hydra may write a sweep's overrides to its folder."""
    try:
        yield
    finally:
        if (sweep := folder / _SWEEP).exists():
            sweep.write_text(masked(sweep.read_text()))


@contextlib.contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """Within, a run's folder is written to before anything is started. Raises ConfigError where that cannot be."""
    try:
        yield
    except OSError as error:
        problem = f"{folder} cannot be written to: {error.strerror or error}"
        raise ConfigError(Fault("run.root", problem, "make room or make it writable, or name another folder")) from None


def _keep_aside(folder: Path) -> None:
    if not folder.exists():
        return
    with contextlib.ExitStack() as stack:
        for path in folder.glob(f"**/{LOCK}"):
            _take(stack.enter_context(path.open()), folder)
        number = 1
        while (kept := folder.with_name(f"{folder.name}.{number}")).exists():
            number += 1
        folder.rename(kept)
    logger.warning("%s was there already and is kept as %s", folder, kept)


def _take(lock: IO[str], folder: Path) -> None:
    """Take the lock of a run's folder. Raises ConfigError when the run has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        cure = "wait for it, or take another run.name"
        raise ConfigError(Fault("run.name", f"a run in {folder} is going on", cure)) from None


def log_to(folder: Path, notes: Sequence[str] = ()) -> None:
    """Copy the log of this process to train.log. notes: what was said before the process was there; begins the log."""
    handler = logging.FileHandler(folder / "train.log")
    handler.setFormatter(_Masked("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # torch_xla configures the root logger, which would print every line again
    for note in notes:
        logger.info(note)


class _Masked(logging.Formatter):
    """Keeps credentials out of a log that others may read."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))
