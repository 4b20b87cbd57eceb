"""What tests of making shards use."""

import pytest
import webdataset

from tests.data.make_shards.packing import FILES, encode, put


@pytest.fixture
def folder(tmp_path):
    return put(tmp_path / "src", FILES)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "dst"


@pytest.fixture
def foreign(tmp_path):
    root = tmp_path / "foreign"
    root.mkdir()
    for number in range(2):
        with webdataset.TarWriter(str(root / f"part-{number}.tar")) as writer:
            for i in range(70):
                key = f"{number}_{i:03d}"
                writer.write({"__key__": key, "jpg": encode(seed=i % 5), "cls": str(i % 3), "json": b"{}"})
    return root
