"""Objects of remote stores, asked for in ranges."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import fsspec
from fsspec.asyn import sync

SILENCE = 60.0  # seconds without a byte after which an http connection counts as broken


class Objects:
    """An object of any fsspec file system, a request per chunk; the libraries of stores have no shorter unit."""

    ranges = True

    def __init__(self, url: str):
        self._fs, self._path = fsspec.url_to_fs(url)

    def describe(self) -> tuple[int | None, str]:
        """Size in bytes and the store's mark of this version of the object."""
        info = self._fs.info(self._path)
        return info["size"], str(info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created"))

    def pieces(self, start: int, size: int | None, chunk: int) -> Iterator[bytes]:
        """The bytes from `start` on, in requests of `chunk` bytes."""
        end = self.describe()[0] if size is None else size
        for first in range(start, end, chunk):
            last = min(first + chunk, end)
            piece = self._fs.cat_file(self._path, start=first, end=last)
            yield piece
            if len(piece) < last - first:
                raise EOFError(f"{len(piece)} bytes came of the {last - first} asked for")


class Http:
    """An http object in ranges. ranges: False once the server ignored them.

    It uses the session of fsspec but not cat_file, which holds the whole object in memory when a server ignores ranges,
    and loses what came before a break.
    """

    def __init__(self, url: str):
        self._fs, self._url, self.ranges = fsspec.url_to_fs(url)[0], url, True

    @contextlib.contextmanager
    def _response(self, first: int, last: int) -> Iterator[tuple[Any, bytes, int, int | None]]:
        """An answer to the request for bytes first to last - 1, its first piece, the byte that this starts with, and
        the size of the object."""
        response, piece = sync(self._fs.loop, self._get, first, last)
        try:
            if response.status in (404, 410):
                raise FileNotFoundError(self._url)
            if response.status in (401, 403):
                raise PermissionError(f"{self._url}: {response.status} {response.reason}")
            if response.status == 416:  # nothing at or after `first`
                yield response, piece, first, first
                return
            response.raise_for_status()
            if response.status == 206:
                content = re.match(r"bytes (\d+)-\d+/(\d+)?", response.headers.get("Content-Range", ""))
                if content is None or int(content[1]) != first:
                    raise OSError(f"another range came than bytes {first} to {last - 1}")
                yield response, piece, first, int(content[2]) if content[2] else None
            else:
                self.ranges = False
                yield response, piece, 0, response.content_length
        finally:
            self._fs.loop.call_soon_threadsafe(response.close)

    async def _get(self, first: int, last: int) -> tuple[Any, bytes]:
        import aiohttp

        session = await self._fs.set_session()
        options = {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)}
        options |= self._fs.kwargs
        # A compressed answer would shift every byte.
        headers = {**options.pop("headers", {}), "Range": f"bytes={first}-{last - 1}", "Accept-Encoding": "identity"}
        response = await session.get(self._fs.encode_url(self._url), headers=headers, **options)
        try:
            # Read here, not later: aiohttp throws away what has come when the connection breaks before a read.
            return response, await _next(response.content, last - first) if response.status in (200, 206) else b""
        except BaseException:
            response.close()
            raise

    def describe(self) -> tuple[int | None, str]:
        """Size in bytes and the server's mark of this version of the object."""
        with self._response(0, 1) as (response, _, _, size):
            return size, response.headers.get("ETag") or response.headers.get("Last-Modified") or ""

    def pieces(self, start: int, size: int | None, chunk: int) -> Iterator[bytes]:
        """The bytes from `start` on, in requests of `chunk` bytes, as they come."""
        position, end = start, size
        while end is None or position < end:
            first = position
            last = first + chunk if end is None else min(first + chunk, end)
            with self._response(first, last) as (answer, piece, at, total):
                while piece:
                    at += len(piece)
                    if at > position:
                        yield piece[position - at :]
                        position = at
                    piece = sync(self._fs.loop, _next, answer.content, chunk)
                if answer.status != 206 or position == first:
                    return
            end = total if end is None else end


async def _next(content: Any, most: int) -> bytes:
    """Up to `most` bytes. What came before a break is handed on: the break is raised by the next call."""
    parts, size = [], 0
    try:
        while size < most and (part := await content.read(most - size)):
            parts.append(part)
            size += len(part)
    except Exception:
        if not parts:
            raise
    return b"".join(parts)
