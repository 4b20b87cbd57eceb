"""Shards of others get an index; what cannot be indexed is named."""

import pytest
import webdataset

from tests.data.make_shards.packing import encode, run, sample
from xlatrain.data.shard_format import read_index, read_shard
from xlatrain.errors import ConfigError


@pytest.mark.slow
def test_shards_of_others_get_an_index_that_verifies(foreign, tmp_path, capsys):
    assert run("index", foreign, processes=2) == 0
    index = read_index(foreign)
    assert [(s.name, s.samples, len(s.marks)) for s in index.shards] == [("part-0.tar", 70, 2), ("part-1.tar", 70, 2)]
    assert index.class_names == ("0", "1", "2")
    assert [s.key for s in read_shard(index, index.shards[1], first=66)] == [f"1_{i:03d}" for i in range(66, 70)]
    assert run("verify", foreign) == 0
    assert "clean" in capsys.readouterr().err

    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    with pytest.raises(ConfigError, match="names 2 classes"):
        run("index", foreign, "--class-names", names)
    names.write_text("cat\ndog\nblue bird\n\n")
    out = tmp_path / "out.json"
    assert run("index", f"{foreign}/part-{{0..1}}.tar", "--out", out, "--class-names", names) == 0
    assert read_index(out).shards[0].name == str(foreign / "part-0.tar")
    assert read_index(out).class_names == ("cat", "dog", "blue bird")
    assert run("verify", out) == 0


def test_what_cannot_be_indexed_is_refused(foreign, tmp_path, capsys):
    with webdataset.TarWriter(str(foreign / "part-2.tar")) as writer:
        writer.write({"__key__": "odd", "jpg": encode()})
        writer.write({"__key__": "word", "jpg": encode(), "cls": "cat"})
    assert run("index", foreign) == 1
    err = capsys.readouterr().err
    assert "part-2.tar: odd: has no label" in err
    assert "part-2.tar: word: its label (cls) is no class number: b'cat'" in err
    assert not (foreign / "index.json").exists()
    for url, match in ((tmp_path / "none", "no folder"), (tmp_path, r"no \.tar"), ("foo://x", "foo://")):
        with pytest.raises(ConfigError, match=match):
            run("index", url)


def test_a_label_far_off_makes_no_millions_of_classes_in_silence(foreign, capsys):
    with webdataset.TarWriter(str(foreign / "part-2.tar")) as writer:
        writer.write(sample("far", 5_000_000))
    with pytest.raises(ConfigError) as error:
        run("index", foreign)
    (fault,) = error.value.faults
    assert fault.problem == "label 5000000 (far of part-2.tar) makes 5,000,001 classes, 4 of them with samples"
    assert "--max-classes 5000001" in fault.cure
    assert not (foreign / "index.json").exists()
    with webdataset.TarWriter(str(foreign / "part-2.tar")) as writer:
        writer.write(sample("near", 15))
    with pytest.raises(ConfigError, match="16 classes"):
        run("index", foreign, "--max-classes", 15)
    assert run("index", foreign, "--max-classes", 16) == 0
    assert len(read_index(foreign).class_names) == 16
    assert (
        "index: 12 of 16 classes without an image: 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 2 more"
        in capsys.readouterr().err
    )
