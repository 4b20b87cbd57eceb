"""Temporary files and semaphores: in one folder a process, and by its name, gone after it, also when it was killed.

The folder is the one that multiprocessing makes for a process and its children, and removes when the process ends. A
file in it is locked for as long as the process lives: the kernel lets go of the lock however the process ended, so that
a folder whose lock is free belongs to nobody. No number of a process is compared, which another may have by then.
Semaphores of multiprocessing lie in /dev/shm, and are cleared by a process of Python's that may have been killed too.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import multiprocessing
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import IO

from xlatrain.errors import ConfigError, Fault

_LOCK = "xlatrain.lock"
_SEMAPHORES = Path("/dev/shm")  # where Linux has them


@contextlib.contextmanager
def temporary_files() -> Iterator[Path]:
    """Within, this process and those that it starts put their temporary files into one folder, and name semaphores
    after it. Clears what processes of this user that were killed have left."""
    folder, _ = _claim()
    default, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    config = multiprocessing.current_process()._config  # processes take it over from who starts them
    prefix, config["semprefix"] = config["semprefix"], f"/mp-{folder.name}"
    try:
        yield folder
    finally:
        config["semprefix"] = prefix
        tempfile.tempdir = default
        del os.environ["TMPDIR"]
        if variable is not None:
            os.environ["TMPDIR"] = variable


def read_own(path: Path) -> bytes:
    """What a process of this user left for another, in a folder that is closed to all others. Raises PermissionError
    where somebody else may have put it there: such a file is unpickled."""
    folder = path.parent.lstat()
    if not stat.S_ISDIR(folder.st_mode) or folder.st_uid != os.getuid() or folder.st_mode & 0o077:
        raise PermissionError(f"{path.parent} is not this user's alone")
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{path} is not of this user")
        return file.read()


def clear_left_behind(place: Path) -> None:
    """Remove the folders under `place` of this user's processes that are no more."""
    for path in place.glob(f"*/{_LOCK}"):
        with contextlib.suppress(OSError):  # held, or somebody else is at it
            found = path.parent.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                with path.open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(path.parent)


def _remove(folder: Path) -> None:
    """The lock goes last: a folder that a dying process still writes to is found again."""
    for path in folder.iterdir():
        if path.name == _LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for path in _SEMAPHORES.glob(f"sem.mp-{folder.name}-*"):
        path.unlink(missing_ok=True)
    if os.listdir(folder) == [_LOCK]:
        shutil.rmtree(folder)


@functools.cache
def _claim() -> tuple[Path, IO[str] | None]:
    """The folder of this process, and its lock, held for as long as the process lives; a child's is its parent's.
    Raises ConfigError."""
    try:
        clear_left_behind(Path(tempfile.gettempdir()))
        folder = Path(get_temp_dir())
        path = folder / _LOCK
        if path.exists():
            return folder, None
        draft = folder / f"{_LOCK}.{os.getpid()}"
        lock = draft.open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        draft.rename(path)  # it is locked before anyone can see it
        return folder, lock
    except OSError as error:
        raise ConfigError(Fault("TMPDIR", f"no temporary folder: {error}", "set it to a folder of yours")) from None
