"""A reader of tar archives as byte streams: ustar, GNU and PAX names and sizes, nothing else.

Reading is most of what a shard costs besides decoding: 15 us a member here, 79 with tarfile's streaming mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK = 512
_END = b"\0" * BLOCK
_REGULAR = (b"\0", b"0", b"7")
_LINK = b"1"  # a hard link: another name of an earlier member
_NO_DATA = b"23456"  # symbolic links, devices, folders, pipes
_MAX_MEMBER = 1 << 30  # larger is damage, or no image
_MAX_HEADER = 1 << 20  # of an extended header


class TarError(ValueError):
    """The archive is damaged, cut short, or holds what this reader refuses; the message says where."""


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of the archive. offset: of its first header block, in bytes; reading may start anew there."""

    name: str
    offset: int
    data: bytes


def read_members(stream: Stream, start: int = 0) -> Iterator[Member]:
    """The regular files of an archive in order. start: the offset in the archive at which the stream stands.

    Raises TarError for damage, for an archive without its end marker, for names that climb out with `..`, for sparse
    files and hard links.
    """
    read, position = stream.read, start
    long_name, pax, first, common = None, {}, None, {}
    while True:
        header = read(BLOCK)
        if len(header) < BLOCK:
            raise TarError(f"cut short at byte {position + len(header)}: there is no end marker")
        if header == _END:
            return _see_end(stream, position + BLOCK)
        first = position if first is None else first
        size, kind = _checked_size(header, position), header[156:157]
        position += BLOCK
        if kind in b"LKxgX":
            body, position = _read_padded(stream, size, position, _MAX_HEADER)
            if kind == b"L":
                long_name = body.rstrip(b"\0")
            elif kind == b"x":
                pax = _pax_records(body, position)
            elif kind == b"g":
                common |= _pax_records(body, position)
            continue
        records = {**common, **pax}
        _refuse_kinds(kind, records, position)
        if b"size" in records:
            size = _number(records[b"size"], 10, position)
        name = records.get(b"path") or long_name or _name(header)
        long_name, pax, offset, first = None, {}, first, None
        if kind in _NO_DATA:
            continue
        text = _checked_name(name, position)
        data, position = _read_padded(stream, size, position, _MAX_MEMBER)
        if kind in _REGULAR and not text.endswith("/"):
            yield Member(text, offset, data)


def _read_padded(stream: Stream, size: int, position: int, most: int) -> tuple[bytes, int]:
    """Data that is filled up to whole blocks, and the position after it."""
    if size > most:
        raise TarError(f"at byte {position - BLOCK} a member claims {size} bytes, more than the {most} allowed")
    padding = -size % BLOCK
    data = stream.read(size)
    filler = stream.read(padding) if padding else b""  # not with the data: to cut it off would copy all of it
    if len(data) + len(filler) < size + padding:
        raise TarError(f"cut short at byte {position + len(data) + len(filler)}, inside a member of {size} bytes")
    return data, position + size + padding


def _checked_size(header: bytes, position: int) -> int:
    """The size a header gives, its checksum checked."""
    stated = _octal(header[148:156], position)
    blank = sum(header) - sum(header[148:156]) + 8 * 32
    if stated != blank:
        signed = blank - 256 * sum(b > 127 for b in header[:148] + header[156:])  # old Sun archives
        if stated != signed:
            raise TarError(f"no tar header at byte {position}: its checksum is wrong")
    field = header[124:136]
    if not field[0] & 0x80:
        return _octal(field, position)
    size = int.from_bytes(field, "big", signed=False) - (0x80 << 88)  # GNU's binary numbers
    if size < 0 or field[0] & 0x40:
        raise TarError(f"a member of negative size at byte {position}")
    return size


def _octal(field: bytes, position: int) -> int:
    return _number(field.partition(b"\0")[0].strip(b" ") or b"0", 8, position)


def _number(text: bytes, base: int, position: int) -> int:
    digits = b"01234567" if base == 8 else b"0123456789"
    if not text or text.strip(digits):
        raise TarError(f"the header at byte {position} holds {text[:20]!r} where a number belongs")
    return int(text, base)


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0":  # GNU's headers hold other things there
        prefix = header[345:500].partition(b"\0")[0]
        return prefix + b"/" + name if prefix else name
    return name


def _checked_name(name: bytes, position: int) -> str:
    text = name.decode("utf-8", "surrogateescape")
    while text.startswith("./"):
        text = text[2:]
    if text.startswith("/") or ".." in text.split("/"):
        raise TarError(f"the member {text!r} before byte {position} climbs out of the archive")
    return text


def _pax_records(body: bytes, position: int) -> dict[bytes, bytes]:
    """The `length key=value` lines of an extended header."""
    records, rest = {}, body
    while rest.strip(b"\0"):
        length, _, _ = rest.partition(b" ")
        size = _number(length, 10, position)
        key, equals, value = rest[len(length) + 1 : size].partition(b"=")
        if not equals or size > len(rest) or value[-1:] != b"\n":
            raise TarError(f"a damaged extended header before byte {position}")
        records[key], rest = value[:-1], rest[size:]
    return records


def _refuse_kinds(kind: bytes, records: dict[bytes, bytes], position: int) -> None:
    """Files whose content lies elsewhere, or only in part here, would be lost unseen: a reader that starts in the
    middle has not seen the member that a hard link names."""
    if kind == b"S" or any(key.startswith(b"GNU.sparse") for key in records):
        raise TarError(f"a sparse file at byte {position - BLOCK}: write the archive without --sparse")
    if kind == _LINK:
        raise TarError(f"a hard link at byte {position - BLOCK}: write the archive with --hard-dereference")


def _see_end(stream: Stream, position: int) -> None:
    """After the end marker only zeros may follow: an archive glued to another would lose the second unseen."""
    while rest := stream.read(1 << 16):
        if rest.strip(b"\0"):
            raise TarError(f"goes on after its end marker at byte {position}: are these archives joined by cat?")
        position += len(rest)
