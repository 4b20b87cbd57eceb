"""Copies of a run's folder, small files and logs, where they outlive the machine: in a store, or a shared folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec

from xlatrain.console import say
from xlatrain.credentials import masked
from xlatrain.errors import in_a_line
from xlatrain.xla import heartbeat

_LOGS = "logs"
_APART = {"checkpoints", heartbeat.FOLDER, "launch.json"}  # kept elsewhere, or of this machine alone


class Keeper:
    """Of one machine. folder: of the run; place: URL or path of its copies; what does not come through is said, and
    tried again."""

    def __init__(self, folder: Path, place: str):
        self._folder, self._place = folder, place.rstrip("/")
        self._known: dict[Path, tuple[float, int]] = {}

    def bring_back(self) -> None:
        """What an earlier machine has written, where this one has no folder of the run."""
        try:
            system, root = fsspec.url_to_fs(self._place)
            if self._folder.exists() or not system.exists(root):
                return
            for path in system.find(root):
                name = path[len(root) :].lstrip("/")
                if name.startswith((f"{_LOGS}/", "step-", ".")):
                    continue
                self._folder.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
                system.get_file(path, str(self._folder / name))
        except Exception as error:  # of any store's library: the checkpoints are looked for by the run itself
            _say(f"copies in {self._place} do not come back: {in_a_line(error)}")

    def copy(self, log: Path, log_name: str) -> None:
        """What has changed since the last time: the log, and the run's folder if its first replica is here."""
        files = [(log, f"{_LOGS}/{log_name}")] if log.exists() else []
        if any(0 in beat.replicas for beat in heartbeat.read(self._folder / heartbeat.FOLDER)):
            files += [(path, path.relative_to(self._folder).as_posix()) for path in self._files()]
        for path, name in files:
            try:
                stat = path.stat()
                if self._known.get(path) != (stat.st_mtime, stat.st_size):
                    system, target = fsspec.url_to_fs(f"{self._place}/{name}")
                    system.makedirs(target.rpartition("/")[0], exist_ok=True)
                    system.put_file(str(path), target)
                    self._known[path] = (stat.st_mtime, stat.st_size)
            except FileNotFoundError:
                continue  # written anew just now
            except Exception as error:
                _say(f"{name} is not copied to {self._place}: {in_a_line(error)}")
                return

    def _files(self) -> Iterator[Path]:
        for path in sorted(self._folder.rglob("*")):
            parts = path.relative_to(self._folder).parts
            if path.is_file() and not _APART & set(parts) and not path.name.startswith("."):
                yield path


def _say(text: str) -> None:
    say(masked(f"xlatrain launch: {text}"))
