"""Files that claim to be large, or are, take no memory for it."""

import io
import struct
import tarfile

import pytest

from tests.data.http_server import serve
from tests.faults import faults_of
from xlatrain.bundle.read import read_bundle
from xlatrain.data.make_shards import convert
from xlatrain.data.make_shards.pictures import Picture
from xlatrain.data.shard_format import group_members, read_index
from xlatrain.data.storage import streams
from xlatrain.data.storage.retry import DEFAULTS
from xlatrain.data.storage.tar import Member, TarError, read_members
from xlatrain.errors import ConfigError, DataError
from xlatrain.preflight.check import check_evaluation
from xlatrain.preflight.facts import Facts


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.slow
def test_an_index_of_10_gigabytes_is_not_read(tmp_path, monkeypatch):
    sparse(tmp_path / "index.json", 10 << 30)
    monkeypatch.setattr(streams, "MIB", 64 << 20)
    with pytest.raises(ConfigError, match="larger than 268,435,456 bytes"):
        read_index(tmp_path)
    with serve() as server:
        url = server.put("a.json", bytes(3 << 20))
        with pytest.raises(OSError, match="larger than 1,048,576 bytes"):
            streams.read_all(url, DEFAULTS, most=1 << 20)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"shards": ' + "[" * 100_000])
def test_nesting_is_no_crash(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ConfigError, match="is not an index"):
        read_index(tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json"):
        read_bundle(tmp_path)
    with pytest.raises(ValueError):
        Facts.from_json(text)


def test_a_manifest_of_10_gigabytes_is_not_read(tmp_path):
    sparse(tmp_path / "manifest.json", 10 << 30)
    with pytest.raises(DataError, match="larger than"):
        read_bundle(tmp_path)


class Counting(io.BytesIO):
    asked = 0

    def read(self, size=-1):
        self.asked += size
        return super().read(size)


@pytest.mark.parametrize("pax", [False, True])
def test_a_member_that_claims_a_terabyte_is_not_asked_for(pax):
    member = tarfile.TarInfo("a.jpg")
    member.size = 1 << 40
    if pax:
        header = member.create_pax_header({**member.get_info(), "size": 1 << 40}, "utf-8")
    else:
        header = member.tobuf(tarfile.GNU_FORMAT)
    stream = Counting(header)
    with pytest.raises(TarError, match="claims 1099511627776 bytes"):
        list(read_members(stream))
    assert stream.asked < 10_000


def test_a_sample_of_endless_files_is_refused():
    members = (Member(f"a.{i}", 0, b"") for i in range(10**9))
    with pytest.raises(TarError, match="more than a sample may"):
        list(group_members(members))


def test_a_file_that_is_no_image_by_its_size_is_not_read(tmp_path):
    path = sparse(tmp_path / "a.jpg", 1 << 40)
    with pytest.raises(OSError, match="are no image"):
        convert.read_picture(Picture("c/a.jpg", str(path), 0, 1 << 40))


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 60),
        struct.pack("<Q", 90 << 20) + b"{",
        struct.pack("<Q", 72) + b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'[:72],
        struct.pack("<Q", 8) + b"[[[[[[[[",
        b"",
    ],
)
def test_a_safetensors_header_that_claims_much_is_a_fault(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    (fault, *_) = faults_of(check_evaluation, [f"weights={tmp_path}/w.safetensors"])
    assert fault.key == "weights"
    assert "cannot be read" in fault.problem
