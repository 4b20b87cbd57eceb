"""The checksum and length of what is read or written, taken on the way."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from xlatrain.data.storage.streams import Stream


class Hashed:
    """A stream or file that is hashed and counted while it is read, or while it is written, from its beginning on."""

    def __init__(self, file: Stream | BinaryIO):
        self._file, self._digest, self.size = file, hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._take(data)
        return data

    def write(self, data: bytes) -> int:
        self._take(data)
        return self._file.write(data)

    def _take(self, data: bytes) -> None:
        self._digest.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()
