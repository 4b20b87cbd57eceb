"""A tar gives the shards of its folder; one that is damaged or climbs out is refused."""

import bz2
import gzip
import lzma
import tarfile

import pytest

from tests.data.make_shards.packing import FILES, content, encode, expected, pack, run, shard_bytes, tar_of
from xlatrain.cli.shards import shards
from xlatrain.errors import ConfigError


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("around", ["", "data/"])
def test_a_tar_gives_the_shards_of_its_folder(folder, target, tmp_path, compress, around):
    archive = tar_of(tmp_path / "a.tar", {around + name: data for name, data in FILES.items()}, compress)
    assert pack(folder, tmp_path / "folder") == 0
    assert run("from-tar", archive, target, "--samples-per-shard", 4) == 0
    assert shard_bytes(target) == shard_bytes(tmp_path / "folder")
    assert sorted(p.name for p in target.iterdir()) == ["train", "val"]
    assert run("from-tar", archive, target, "--samples-per-shard", 4) == 0


def test_a_tar_of_one_tar_per_class_with_flat_val_and_labels(folder, target, tmp_path):
    """ImageNet as it is handed out."""
    classes = {
        f"{name}.tar": {n.split("/")[-1]: d for n, d in FILES.items() if n.startswith(f"train/{name}/")}
        for name in ("cat", "dog")
    }
    inner = {name: tar_of(tmp_path / name, files).read_bytes() for name, files in classes.items()}
    train = tar_of(tmp_path / "train.tar", inner)
    of_val = {n.removeprefix("val/"): d for n, d in FILES.items() if n.startswith("val/")}
    val = tar_of(tmp_path / "val.tar", {n.replace("/", "_"): d for n, d in of_val.items()})
    arguments = ("from-tar", train, target, "--val", val)
    with pytest.raises(ConfigError, match="no class folders"):
        run(*arguments)
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"{n.replace('/', '_')} {n.split('/')[0]}\n" for n in of_val))
    assert run(*arguments, "--labels", labels, processes=2) == 0
    assert content(target) == expected("train")
    assert sorted(content(target, "val").values()) == sorted(expected("val").values())


def test_a_tar_of_hard_links_is_refused_and_loses_no_image(folder, target, tmp_path, capsys):
    (folder / "train/dog/again.jpg").hardlink_to(next((folder / "train/cat").glob("*.jpg")))
    with tarfile.open(tmp_path / "linked.tar", "w") as tar:
        tar.add(folder, ".")
    with pytest.raises(ConfigError, match="a hard link at byte .*--hard-dereference"):
        run("from-tar", tmp_path / "linked.tar", target)
    assert shards(["index", str(tmp_path / "linked.tar")]) == 1
    assert "a hard link at byte" in capsys.readouterr().err


def test_a_tar_that_climbs_out_or_is_damaged_is_refused(target, tmp_path):
    with pytest.raises(ConfigError, match="climbs out"):
        run("from-tar", tar_of(tmp_path / "a.tar", {"../train/cat/1.jpg": encode()}), target)
    whole = gzip.compress(tar_of(tmp_path / "b.tar", FILES).read_bytes())
    (tmp_path / "c.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cannot be decompressed"):
        run("from-tar", tmp_path / "c.tar.gz", target)
    assert not target.exists()
