"""Verify and info see what is damaged, missing or left half, and say clean of nothing else."""

import json
import shutil

import pytest

from tests.data.make_shards.packing import damaged, encode, pack, put, run, sample
from xlatrain.data.shard_format import Shard, read_index, read_shard, write_index
from xlatrain.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"jpg": b"x", "cls": b"cat"}, "its label (cls) is no class number: b'cat'"),
        ({"jpg": b"x", "cls": b"-1"}, "its label (cls) is no class number: b'-1'"),
        ({"jpg": b"x", "cls": b"1.0"}, "its label (cls) is no class number: b'1.0'"),
        ({"jpg": b"x", "cls": b"9" * 12}, "its label (cls) is no class number: b'999999999999'"),
        ({"jpg": b"x"}, "has no label (cls)"),
        ({"cls": b"0"}, "has no image (jpg, jpeg, png, webp)"),
        ({"jpg": b"x", "png": b"x", "cls": b"0"}, "has 2 images (jpg, jpeg, png, webp)"),
    ],
)
def test_a_bad_sample_is_called_the_same_by_index_verify_and_training(tmp_path, capsys, members, words):
    root = damaged(tmp_path / "x", [{"__key__": "k", **members}])
    for verb in ("index", "verify"):
        assert run(verb, root) == 1
        assert f"s.tar: k: {words}\n" in capsys.readouterr().err
    index = read_index(root)
    with pytest.raises(DataError) as error:
        list(read_shard(index, index.shards[0]))
    assert str(error.value) == f"sample 'k' of shard {root}/s.tar: {words}"


@pytest.mark.parametrize(
    ("samples", "stated", "problem"),
    [
        ([sample("a"), sample("b", 2)], {}, "s.tar: b: label 2 is outside 0..1"),
        ([sample("a"), sample("b", -1)], {}, "s.tar: b: its label (cls) is no class number"),
        ([sample("a"), sample("b"), sample("a")], {}, "s.tar: a: the key is also in s.tar"),
        ([sample("a"), sample("b", image=encode()[:200])], {}, "s.tar: b: cannot be decoded"),
        ([sample("a"), sample("b", image=b"")], {}, "s.tar: b: cannot be decoded"),
        ([sample("a"), {"__key__": "b", "cls": b"0"}], {}, "s.tar: b: has no image"),
        ([sample("a"), {"__key__": "b", "jpg": encode()}], {}, "s.tar: b: has no label"),
        ([sample("a"), sample("b") | {"png": encode("PNG")}], {}, "s.tar: b: has 2 image"),
        ([sample("a")], {"samples": 2}, "s.tar: samples: the index says 2, the shard 1"),
        ([sample("a")], {"sha256": "00"}, "s.tar: sha256: the index says 00"),
        ([sample("a")], {"marks": (512,)}, "s.tar: marks"),
        ([sample("a")], {"bytes": 5}, "another length"),
        ([sample("../a")], {}, "climbs out"),
    ],
)
def test_verify_names_what_is_wrong(tmp_path, capsys, samples, stated, problem):
    assert run("verify", damaged(tmp_path / "x", samples, **stated)) == 1
    err = capsys.readouterr().err
    assert problem in err
    assert "1 problem\n" in err


def test_verify_sees_a_flipped_byte_and_compares_the_splits(folder, target, capsys):
    assert pack(folder, target) == 0
    path = target / "train/shard-000001.tar"
    data = bytearray(path.read_bytes())
    data[512 + 100] ^= 1  # in the padding after the first label, where no decoder looks
    path.write_bytes(data)
    content = json.loads((target / "val/index.json").read_text())
    (target / "val/index.json").write_text(json.dumps(content | {"class_names": ["cat", "cow"]}))
    assert run("verify", target, processes=2) == 1
    err = capsys.readouterr().err
    assert "shard-000001.tar: sha256: the index says" in err
    assert "class 1 is 'dog' in train, 'cow' in val" in err
    path.write_bytes(data[:-5000])
    assert run("verify", target) == 1
    assert "another length" in capsys.readouterr().err


def test_verify_tells_of_classes_without_image_and_of_a_missing_data_set(tmp_path, capsys):
    assert run("verify", damaged(tmp_path / "x", [sample("a")])) == 0
    err = capsys.readouterr().err
    assert "classes without an image: dog" in err
    assert "no checksum" in err
    (tmp_path / "empty/train").mkdir(parents=True)
    for root in ("nothing", "empty"):
        with pytest.raises(ConfigError, match="there is no split"):
            run("verify", tmp_path / root)


def test_a_split_that_was_refused_or_left_half_is_not_clean(folder, target, capsys):
    """Clean is said only where everything was read that training reads; val alone is not that."""
    put(folder, {"train/cat/empty.jpg": b""})
    assert pack(folder, target) == 1
    assert read_index(target / "val").samples == 5
    for verb in ("verify", "info"):
        capsys.readouterr()
        assert run(verb, target) == 1
        err = capsys.readouterr().err
        assert f"not finished, 4 .tar without index.json: mend or remove what {target}/train/bad_files.txt lists" in err
        assert "clean" not in err
    assert run("verify", target / "train") == 1
    (target / "train/bad_files.txt").unlink()
    assert run("verify", target) == 1
    assert "the command that began it goes on where it ended" in capsys.readouterr().err
    shutil.rmtree(target / "train/.progress")  # as if copied from elsewhere
    assert run("verify", target) == 1
    err = capsys.readouterr().err
    assert f"train: 1 problem\n  4 .tar without index.json: xlatrain shards index {target}/train\n" in err
    assert run("verify", f"file://{target}") == 1


@pytest.mark.parametrize("missing", ["train", "val"])
def test_a_data_set_without_one_of_its_splits_is_not_clean(folder, target, missing, capsys):
    assert pack(folder, target) == 0
    shutil.rmtree(target / missing)
    assert run("verify", target) == 1
    assert f"{missing}: 1 problem\n  there is none" in capsys.readouterr().err
    (other,) = target.iterdir()
    assert run("verify", other) == 0


def test_verify_reads_splits_of_any_name_and_tells_of_tars_outside_of_the_index(folder, target, capsys):
    assert pack(folder, target) == 0
    (target / "train").rename(target / "part-a")
    path = target / "part-a/shard-000001.tar"
    shutil.copy(path, target / "part-a/late.tar")
    assert run("verify", target) == 0
    err = capsys.readouterr().err
    assert "train: there is none: training needs data.train to name one of part-a" in err
    assert "clean, all images read: val 5, part-a 13" in err
    assert f"1 .tar beside the index that it does not name and nobody reads, first {target}/part-a/late.tar" in err
    path.write_bytes(path.read_bytes()[:2000] + b"?" + path.read_bytes()[2001:])
    assert run("verify", target) == 1


def test_an_index_of_nothing_is_not_clean(folder, target, capsys):
    assert pack(folder, target) == 0
    write_index(target / "train", [], ["cat", "dog"])
    assert run("verify", target) == 1
    assert "the index names no sample" in capsys.readouterr().err


def test_info_shows_both_splits_and_what_is_missing(folder, target, foreign, capsys):
    assert pack(folder, target) == 0
    capsys.readouterr()
    assert run("info", target) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    size = sum(p.stat().st_size for p in (target / "train").glob("*.tar"))
    assert rows["train"][1:4] == ["4", "13", f"{size:,}"]
    assert rows["val"][1:3] == ["2", "5"]
    assert "train: cat, dog" in out
    write_index(foreign, [Shard("part-0.tar", 70)], ["0", "1", "2"])
    assert run("info", foreign) == 0
    out = capsys.readouterr().out
    for what in ("no size", "no checksum", "no mark", "only numbers", "unknown"):
        assert what in out
