"""Byte streams of files and remote objects, read in order, that go on from the byte where a connection broke.

A url is a local path, file://, or what fsspec opens: gs://, s3://, http(s)://. Remote objects are asked for in ranges,
by a thread that reads ahead, so that the network works while the reader decodes.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import fsspec
from braceexpand import braceexpand

from xlatrain.data.storage import disk_cache
from xlatrain.data.storage.remote import Http, Objects
from xlatrain.data.storage.retry import DEFAULTS, FINAL, MIB, Patience, ReadOptions
from xlatrain.errors import ConfigError, Fault

MOST = 256 << 20  # bytes of an index: that of ImageNet-21k with 1,000 samples a shard is under 10 MB
EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3", "http": "http", "https": "http"}


class _ReadAhead:
    """A thread that reads a remote object from `start` to its end, `read_ahead` bytes ahead."""

    def __init__(self, url: str, source: Objects | Http, options: ReadOptions, start: int, size: int | None):
        self._url, self._source, self._options, self._size = url, source, options, size
        self._held, self._pieces, self._changed = 0, deque(), threading.Condition()
        self._stop, self._ended, self._error = threading.Event(), False, None
        self._thread = threading.Thread(target=self._run, args=(start,), daemon=True, name="read-ahead")
        self._thread.start()

    def _read(self, position: int) -> Iterator[bytes]:
        """Every byte from `position` on, once, over any number of broken connections."""
        patience, size = Patience(self._url, self._options, self._stop.wait), self._size
        while True:
            try:
                with contextlib.closing(
                    self._source.pieces(position, size, max(1, self._options.read_ahead // 2))
                ) as pieces:
                    for piece in pieces:
                        if piece := piece[: None if size is None else max(0, size - position)]:
                            position += len(piece)
                            patience.progress()
                            yield piece
                if size is None or position >= size:
                    return
                raise EOFError(f"ended at byte {position} of {size}")
            except FINAL:
                raise
            except Exception as error:
                if patience.after(error, position):
                    return

    def _run(self, start: int) -> None:
        error: Exception | None = None
        try:
            with contextlib.closing(self._read(start)) as pieces:
                for piece in pieces:
                    with self._changed:
                        self._changed.wait_for(lambda: self._held < self._options.read_ahead or self._stop.is_set())
                        if self._stop.is_set():
                            return
                        self._pieces.append(piece)
                        self._held += len(piece)
                        self._changed.notify_all()
        except Exception as e:
            error = e
        finally:
            with self._changed:
                self._ended, self._error = True, error
                self._changed.notify_all()

    def next(self) -> bytes:
        """The next bytes, empty at the end. Raises what ended the thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._ended)
            if not self._pieces:
                if self._error is not None:
                    raise self._error
                return b""
            piece = self._pieces.popleft()
            self._held -= len(piece)
            self._changed.notify_all()
            return piece

    def close(self) -> None:
        """Stop reading. A request under way is waited for, 5 s at most; what it brings later is dropped."""
        with self._changed:
            self._stop.set()
            self._changed.notify_all()
        self._thread.join(timeout=5.0)


class Stream:
    """The bytes of a file in order. `position`: the byte that the next read starts with."""

    def __init__(self, file: BinaryIO, start: int = 0):
        self._file, self.position = file, file.seek(start)

    def read(self, n: int) -> bytes:
        """The next n bytes, fewer only at the end. Raises DataError when retries do not help, FileNotFoundError."""
        data = self._file.read(n)
        self.position += len(data)
        return data

    def skip(self, n: int) -> None:
        """Move n bytes on, but not past the end."""
        end = os.fstat(self._file.fileno()).st_size
        self.position = self._file.seek(max(self.position, min(self.position + n, end)))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _RemoteStream(Stream):
    """The bytes of a remote object in order, from a thread that reads ahead."""

    def __init__(self, url: str, source: Objects | Http, options: ReadOptions, start: int, size: int | None):
        self._source, self._near, self._size = source, options.read_ahead, size
        self._open = lambda at: _ReadAhead(url, source, options, at, size)
        self._ahead, self._piece, self._used, self.position = self._open(start), b"", 0, start

    def read(self, n: int) -> bytes:
        parts = []
        while n > 0:
            if self._used == len(self._piece):
                self._piece, self._used = self._ahead.next(), 0
                if not self._piece:
                    break
            part = self._piece[self._used : self._used + n]
            parts.append(part)
            n -= len(part)
            self._used += len(part)
            self.position += len(part)
        return b"".join(parts)

    def skip(self, n: int) -> None:
        """Move n bytes on, but not past the end; beyond what is read ahead with a new request, where the size is known
        and the server has ranges."""
        if n > self._near and self._size is not None and self._source.ranges:
            self._ahead.close()
            self.position = max(self.position, min(self.position + n, self._size))
            self._ahead, self._piece, self._used = self._open(self.position), b"", 0
            return
        while n > 0 and (part := self.read(min(n, MIB))):
            n -= len(part)

    def close(self) -> None:
        self._ahead.close()


def open_stream(
    url: str, options: ReadOptions, start: int = 0, size: int | None = None, version: str | None = None
) -> Stream:
    """Open a url at byte `start`. size: bytes that the object should have; a remote one that ends before is read on.
    version: tells objects apart that have the same url and size, for the cache: a checksum.

    With options.cache, a remote object is first copied there whole, which opening then waits for; without a size, the
    store is asked for it. Raises FileNotFoundError (of a remote object only in read), DataError, ConfigError.
    """
    if _scheme(url) is None:
        check_regular(_local(url))
        return Stream(open(_local(url), "rb", buffering=MIB), start)
    source = _remote(url)
    if options.cache is not None:
        if size is None:
            size, mark = _describe(url, source, options)
            version = version or mark
        if size is not None:
            cache = disk_cache.DiskCache(Path(options.cache), options.cache_bytes)
            file = cache.open(
                f"{url} {size} {version or ''}", size, lambda: _RemoteStream(url, source, options, 0, size)
            )
            if file is not None:
                return Stream(file, start)
    return _RemoteStream(url, source, options, start, size)


def describe(url: str, options: ReadOptions) -> tuple[int | None, str]:
    """Size in bytes of a remote object, where the store tells, and its mark of this version. Raises FileNotFoundError,
    PermissionError, DataError."""
    return _describe(url, _remote(url), options)


def check_regular(path: str) -> None:
    """Raises OSError for what is no regular file: to open a pipe waits for a writer, for ever."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
        raise OSError(f"{path} is {kinds.get(stat.S_IFMT(mode), 'a device')}, no file")


def read_all(url: str, options: ReadOptions, most: int = MOST, what: str = "index") -> bytes:
    """The whole of a small object, never from the cache. what: it is. Raises FileNotFoundError, DataError, and OSError
    for more than `most` bytes, of which no more are read."""
    parts, size = [], 0
    with open_stream(url, replace(options, cache=None)) as stream:
        while piece := stream.read(MIB):
            parts.append(piece)
            size += len(piece)
            if size > most:
                raise OSError(f"{url} is larger than {most:,} bytes, which no {what} is")
    return b"".join(parts)


def check_url(url: str, key: str = "data.root") -> None:
    """Raises ConfigError, naming `key`, when nothing here opens the url's scheme."""
    scheme = _scheme(url)
    if scheme is None:
        return
    known = "a local path, " + ", ".join(f"{name}://" for name in EXTRAS)
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        raise ConfigError(Fault(key, f"{url}: {scheme}:// is not known", f"use {known}")) from None
    except ImportError as error:
        cure = f"pip install 'xlatrain[{EXTRAS[scheme]}]'" if scheme in EXTRAS else f"{error}; or use {known}"
        raise ConfigError(Fault(key, f"{url}: {scheme}:// needs a package that is not installed", cure)) from None


def join_url(folder: str, name: str) -> str:
    """The url of a name in a folder; an absolute name stays what it is."""
    if not folder or name.startswith("/") or "://" in name:
        return name
    return f"{folder.rstrip('/')}/{name}"


def expand_braces(pattern: str) -> list[str]:
    """shard-{000000..000123}.tar and {a,b}, nested, in order. Raises ValueError for unbalanced braces."""
    return list(braceexpand(pattern, escape=False))


def list_files(pattern: str, suffix: str | tuple[str, ...], options: ReadOptions = DEFAULTS) -> list[str]:
    """What a brace pattern expands to, or the files of a folder that end in suffix, or in one of several, sorted.

    Raises FileNotFoundError for a folder that is not there, ValueError, DataError, ConfigError.
    """
    if "{" in pattern:
        return expand_braces(pattern)
    if _scheme(pattern) is None:
        return sorted(str(path) for path in Path(_local(pattern)).iterdir() if path.name.endswith(suffix))
    check_url(pattern)
    system, folder = fsspec.url_to_fs(pattern)
    found = Patience(pattern, options).call(lambda: system.ls(folder, detail=False))
    return sorted(system.unstrip_protocol(name) for name in found if name.endswith(suffix))


def _scheme(url: str) -> str | None:
    """The scheme of a remote url, None for a local file."""
    match = re.match(r"([A-Za-z][\w+.-]*)://", url)
    return None if match is None or match[1] == "file" else match[1]


def _local(url: str) -> str:
    return url.removeprefix("file://")


def _describe(url: str, source: Objects | Http, options: ReadOptions) -> tuple[int | None, str]:
    return Patience(url, options).call(source.describe)


def _remote(url: str) -> Objects | Http:
    check_url(url)
    return Http(url) if _scheme(url) in ("http", "https") else Objects(url)
