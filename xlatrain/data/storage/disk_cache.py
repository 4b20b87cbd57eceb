"""A folder with whole copies of remote objects, shared by the processes of a host, of limited size.

`<digest>.object` is a finished copy, its mtime the last use. `<digest>.part` is one in the making: only who holds its
lock writes, renames or removes it, so one that nobody holds was left by a dead process. Other files are not touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol

from xlatrain.errors import DataError

MIB = 2**20


class Readable(Protocol):
    def read(self, n: int, /) -> bytes: ...


@dataclass(frozen=True)
class DiskCache:
    """limit: bytes that the copies, also those in the making, may take; None for no limit."""

    folder: Path
    limit: int | None = None

    def open(self, key: str, size: int, fetch: Callable[[], AbstractContextManager[Readable]]) -> BinaryIO | None:
        """The object `key` as a file, fetched when it is not here; a process that fetches it already is waited for.

        None when there is no room for `size` bytes. Raises what reading raises, and DataError when the folder cannot be
        written. A copy that is evicted while it is open reads on; its bytes come free with close.
        """
        if self.limit is not None and size > self.limit:
            return None
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        copy, part = self.folder / f"{name}.object", self.folder / f"{name}.part"
        while True:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if file := self._use(copy, size):
                    return file
            with self._writing():
                self.folder.mkdir(parents=True, exist_ok=True)
                draft = _lock(part)
            with draft:
                if copy.exists():
                    part.unlink()
                    continue
                try:
                    if not self._make_room(draft, size):
                        part.unlink()
                        return None
                    self._fill(draft, fetch)
                    with self._writing():
                        file = part.open("rb", buffering=MIB)
                        part.rename(copy)
                    return file
                except BaseException:
                    part.unlink(missing_ok=True)
                    raise

    def _use(self, copy: Path, size: int) -> BinaryIO | None:
        """The copy that is here; None, and it is gone, when it is not whole."""
        file = copy.open("rb", buffering=MIB)
        if os.fstat(file.fileno()).st_size != size:
            file.close()
            copy.unlink(missing_ok=True)
            return None
        with self._writing(), contextlib.suppress(FileNotFoundError):
            os.utime(copy)
        return file

    def _fill(self, draft: FileIO, fetch: Callable[[], AbstractContextManager[Readable]]) -> None:
        with fetch() as stream:
            while piece := stream.read(MIB):
                rest = memoryview(piece)
                while rest:
                    with self._writing():
                        rest = rest[draft.write(rest) :]
        with self._writing():
            # A host that loses power could else keep the name without the bytes; costs waiting for the disk once.
            os.fsync(draft.fileno())

    def _make_room(self, draft: FileIO, size: int) -> bool:
        """Remove what dead processes left and, over the limit, the copies longest unused; then stretch the draft to its
        size, so that other processes count it. False when the drafts of others leave no room."""
        with self._writing(), _lock(self.folder / "lock"):
            draft.truncate(0)
            for path in self.folder.glob("*.part"):
                if (left := _lock(path, wait=False)) is not None:
                    with left:
                        path.unlink()
            taken = sum(bytes for _, bytes, _ in self._files(".part"))
            if self.limit is not None:
                if taken + size > self.limit:
                    return False
                copies = sorted(self._files(".object"))
                taken += size + sum(bytes for _, bytes, _ in copies)
                for _, bytes, path in copies:
                    if taken <= self.limit:
                        break
                    path.unlink()
                    taken -= bytes
            draft.truncate(size)
            return True

    def _files(self, suffix: str) -> Iterator[tuple[int, int, Path]]:
        """Last use in ns, size in bytes, path."""
        for path in self.folder.glob(f"*{suffix}"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                yield status.st_mtime_ns, status.st_size, path

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"the cache folder {self.folder} cannot be written: {error}") from error


def _lock(path: Path, wait: bool = True) -> FileIO | None:
    """Open a file for writing, made if absent, and lock it until it is closed. None when not waiting for its holder."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        with contextlib.suppress(FileNotFoundError):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                file.close()
                return None
            # The holder before may have renamed or removed it: then the lock is on a file without this name.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()
