"""Archives of every writer are read as tarfile reads them, and damage is an error, never a wrong member or a crash."""

import io
import random
import tarfile

import pytest

from xlatrain.data.storage.tar import TarError, read_members

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def archive(draw, form):
    """A random archive and its regular files."""
    buffer, files = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for i in range(draw.randrange(6)):
            name = "/".join("d" * draw.randrange(1, 60) for _ in range(draw.randrange(1, 3))) + f"é{i}.jpg"
            if form != tarfile.USTAR_FORMAT and draw.random() < 0.3:
                name = "x" * draw.randrange(90, 300) + name
            member, data = tarfile.TarInfo(name), draw.randbytes(draw.choice((0, 1, 511, 512, 513, 2000)))
            member.mtime = 1.5 if form == tarfile.PAX_FORMAT else 1
            if draw.random() < 0.2:
                member.type = draw.choice((tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE))
                member.linkname = "l" * draw.randrange(1, 150 if form != tarfile.USTAR_FORMAT else 90)
                data = b""
            else:
                files.append((name, data))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue(), files


@pytest.mark.parametrize("form", FORMATS)
def test_what_tarfile_writes_is_read(form):
    draw = random.Random(form)
    for _ in range(100):
        data, files = archive(draw, FORMATS[form])
        members = list(read_members(io.BytesIO(data)))
        assert [(m.name, m.data) for m in members] == files
        for member in members:  # reading starts anew at any of them
            stream = io.BytesIO(data)
            stream.seek(member.offset)
            assert next(read_members(stream, member.offset)) == member


@pytest.mark.parametrize("form", FORMATS)
def test_damage_is_an_error_and_nothing_else(form):
    """A damaged archive gives TarError or members; no other exception, and no member from before the damage changed."""
    draw = random.Random(form)
    for _ in range(150):
        data, files = archive(draw, FORMATS[form])
        for _ in range(10):
            broken = bytearray(data)
            first = len(broken)
            for _ in range(draw.randrange(1, 4)):
                at = draw.randrange(len(broken))
                broken[at] = draw.randrange(256)
                first = min(first, at)
            read = []
            try:
                for member in read_members(io.BytesIO(bytes(broken[: draw.randrange(len(broken) + 1)]))):
                    read.append(member)
            except TarError:
                pass
            for member, known in zip(read, files, strict=False):
                if member.offset + 512 * 8 + len(member.data) < first:
                    assert (member.name, member.data) == known


@pytest.mark.parametrize("cut", [1, 511, 512, 700, 1024])
def test_an_archive_cut_anywhere_is_an_error(cut):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("a.jpg")
        member.size = 300
        tar.addfile(member, io.BytesIO(b"x" * 300))
    with pytest.raises(TarError, match=f"cut short at byte {cut}"):
        list(read_members(io.BytesIO(buffer.getvalue()[:cut])))


def one_member(name="a.jpg", size=3, kind=b"0", checksum=True):
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    header[156:157] = kind
    if checksum:
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"abc".ljust(512, b"\0") + b"\0" * 1024


def test_sizes_in_binary_and_names_out_of_the_archive():
    assert next(read_members(io.BytesIO(one_member(size=b"\x80" + b"\0" * 10 + b"\x03")))).data == b"abc"
    for data, message in (
        (one_member(name="../a.jpg"), r"'\.\./a\.jpg' .*climbs out"),
        (one_member(name="/a.jpg"), "climbs out"),
        (one_member(name="d/../../a.jpg"), "climbs out"),
        (one_member(size=b"\xff" * 12), "negative size"),
        (one_member(size=b"\x80" + b"\x01" * 11), "more than the .* allowed"),
        (one_member(size=b"9" * 12), "where a number belongs"),
        (one_member(kind=b"S"), "sparse"),
        (one_member(kind=b"1", size=0), "a hard link at byte 0: write the archive with --hard-dereference"),
        (one_member(checksum=False)[:120] + b"x" + one_member(checksum=False)[121:], "checksum is wrong"),
    ):
        with pytest.raises(TarError, match=message):
            list(read_members(io.BytesIO(data)))


def test_archives_joined_by_cat_do_not_lose_the_second_unseen():
    with pytest.raises(TarError, match="goes on after its end marker"):
        list(read_members(io.BytesIO(one_member() + one_member())))
