"""Where checkpoints lie: a folder of a disk, or of a store that fsspec knows. Each is a folder of its own in there, and
stands once its manifest does."""

from __future__ import annotations

import contextlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from xlatrain.checkpoint.manifest import MANIFEST, step_of
from xlatrain.credentials import masked


class Draft(ABC):
    """A checkpoint in the making."""

    @abstractmethod
    def open(self, file: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """A file of it, to be written; once it is closed its bytes are safe."""


class Store(ABC):
    """place: how people are told of it. whole: a checkpoint has its name when all of it is there, and no sooner."""

    place: str
    whole: bool

    @abstractmethod
    def names(self) -> list[str]:
        """What looks like a checkpoint by its name, oldest first. Raises OSError."""

    @abstractmethod
    def open(self, name: str, file: str) -> BinaryIO:
        """A file of a checkpoint, to be read. Raises OSError."""

    @abstractmethod
    def draft(self, name: str) -> contextlib.AbstractContextManager[Draft]:
        """A new checkpoint, which takes the place of one of the same name, if any, once the body has ended well; the
        body writes the manifest last. Raises OSError, and leaves then what was there."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a checkpoint; one that is half gone counts as none. Raises OSError."""

    def local(self, name: str, file: str) -> Path | None:
        """A file of a checkpoint as one of a disk; None where it is none."""
        return None


def open_store(folder: str) -> Store:
    """A path or a URL."""
    folder = folder.removeprefix("file://")
    return RemoteStore(folder) if "://" in folder else LocalStore(Path(folder))


class LocalStore(Store):
    """A folder of a disk. A checkpoint is written under another name, then renamed: it is there whole or not at all,
    also when the machine loses power, since the bytes are on the disk before the name is."""

    whole = True

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        self.place = str(self.folder)

    def names(self) -> list[str]:
        if not self.folder.exists():
            return []
        return sorted((p.name for p in self.folder.iterdir() if step_of(p.name) is not None), key=step_of)

    def open(self, name: str, file: str) -> BinaryIO:
        return (self.folder / name / file).open("rb")

    def local(self, name: str, file: str) -> Path:
        return self.folder / name / file

    @contextlib.contextmanager
    def draft(self, name: str) -> Iterator[Draft]:
        _make(self.folder)
        draft, final, old = (self.folder / n for n in (f".{name}.part", name, f".{name}.old"))
        for left in (*self.folder.glob(".step-*.part"), *self.folder.glob(".step-*.old")):  # of a process that died
            shutil.rmtree(left)
        draft.mkdir()
        try:
            yield _LocalDraft(draft)
            _sync(draft)
            if final.exists():  # a damaged one: what is sound is gone on from, and not written again
                final.rename(old)
            draft.rename(final)
            _sync(self.folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def remove(self, name: str) -> None:
        old = self.folder / f".{name}.old"  # what a process leaves of it that dies meanwhile the next draft clears
        (self.folder / name).rename(old)
        shutil.rmtree(old)


class _LocalDraft(Draft):
    def __init__(self, folder: Path):
        self._folder = folder

    @contextlib.contextmanager
    def open(self, file: str) -> Iterator[BinaryIO]:
        with (self._folder / file).open("wb", buffering=0) as opened:
            yield _Whole(opened)
            os.fsync(opened.fileno())


class _Whole:
    """A file without a buffer of its own, whose write writes all: a raw one may write less, and say so."""

    def __init__(self, file: BinaryIO):
        self._file = file

    def write(self, data: bytes | memoryview) -> int:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        return len(data)


def _make(folder: Path) -> None:
    """Make a folder and those above it that are not there; their names are on the disk when this returns."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """See that a folder's names are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RemoteStore(Store):
    """A folder of a store of objects, where nothing is renamed: files first, the manifest last, which makes it one."""

    whole = False

    def __init__(self, url: str):
        import fsspec

        self._url, self.place = url, masked(url)
        self._fs, self._root = fsspec.url_to_fs(url.rstrip("/"))

    def _path(self, name: str, file: str = "") -> str:
        return "/".join(part for part in (self._root, name, file) if part)

    def names(self) -> list[str]:
        with _as_os_error():
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
        names = {path.rstrip("/").rpartition("/")[2] for path in found}
        return sorted((name for name in names if step_of(name) is not None), key=step_of)

    def open(self, name: str, file: str) -> BinaryIO:
        with _as_os_error():
            return self._fs.open(self._path(name, file), "rb")

    @contextlib.contextmanager
    def draft(self, name: str) -> Iterator[Draft]:
        with _as_os_error():
            self._remove_manifest(name)
            with contextlib.suppress(Exception):  # stores of objects have no folders, and may want rights to make one
                self._fs.makedirs(self._path(name), exist_ok=True)
            yield _RemoteDraft(self._fs, self._path(name))

    def remove(self, name: str) -> None:
        with _as_os_error():
            self._remove_manifest(name)
            self._fs.rm(self._path(name), recursive=True)

    def _remove_manifest(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name, MANIFEST))


class _RemoteDraft(Draft):
    def __init__(self, fs: object, folder: str):
        self._fs, self._folder = fs, folder

    @contextlib.contextmanager
    def open(self, file: str) -> Iterator[BinaryIO]:
        with self._fs.open(f"{self._folder}/{file}", "wb") as opened:
            yield opened


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """The libraries of stores raise what they like."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {masked(str(error))}") from error
