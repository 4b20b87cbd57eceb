"""A folder is taken for what it is: what is left out, odd or no file is named, what is wrong refused."""

import os
import shutil

import pytest

from tests.data.make_shards.packing import FILES, content, encode, expected, pack, put, run, shard_bytes, tar_of
from xlatrain.data.shard_format import read_index
from xlatrain.errors import ConfigError


def test_wrong_folders_are_refused_before_anything_is_written(folder, target, tmp_path):
    put(folder, {"val/bird/1.jpg": encode(), "val/cow/1.jpg": encode()})
    with pytest.raises(ConfigError, match="bird, cow"):
        pack(folder, target)
    with pytest.raises(ConfigError, match="--split"):
        pack(folder / "train", target)
    with pytest.raises(ConfigError, match="no folder"):
        pack(tmp_path / "nothing", target)
    with pytest.raises(ConfigError, match="lies in SRC"):
        pack(folder, folder / "shards")
    assert not target.exists()
    shutil.rmtree(folder / "val")
    (folder / "test").mkdir()
    with pytest.raises(ConfigError, match="no image of val"):
        pack(folder, target)


def test_a_folder_called_test_is_taken_as_val_and_that_is_said(folder, target, capsys):
    (folder / "val").rename(folder / "test")
    assert pack(folder, target) == 0
    assert "val is made of" in capsys.readouterr().err
    assert content(target, "val") == expected("val")


@pytest.fixture
def pipe():
    """Makes pipes that somebody holds open, so that a reader which opens one does not wait for ever."""
    held = []

    def make(path):
        os.mkfifo(path)
        held.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))

    yield make
    for descriptor in held:
        os.close(descriptor)


def test_what_is_no_file_is_a_bad_file_and_never_opened(folder, target, pipe, capsys):
    """A pipe named .jpg would be waited for till somebody writes to it."""
    pipe(folder / "train/cat/pipe.jpg")
    (folder / "train/cat/nowhere.jpg").symlink_to("gone")
    (folder / "train/cat/itself.jpg").symlink_to("itself.jpg")
    assert pack(folder, target, processes=2) == 1
    err = capsys.readouterr().err
    assert "cat/pipe.jpg: " in err
    assert "pipe.jpg is a pipe, no file" in err
    assert "3 bad files" in err
    assert pack(folder, target, "--skip-bad") == 0
    assert content(target) == expected("train")
    (target / "train/shard-000001.tar").unlink()
    pipe(target / "train/shard-000001.tar")
    assert run("verify", target) == 1
    assert run("index", target / "train") == 1
    assert "shard-000001.tar is a pipe, no file" in capsys.readouterr().err


def test_links_that_lead_back_are_named_and_not_followed(folder, target, capsys):
    (folder / "train/cat/loop").symlink_to(".")
    (folder / "train/again").symlink_to(".")
    (folder / "train/cat/up").symlink_to(folder.parent)
    (folder / "train/cat/self").symlink_to("self")
    assert pack(folder, target) == 0
    err = capsys.readouterr().err
    assert f"{folder}/train: links to a folder that they lie in, not followed: 3, the first again" in err
    assert content(target) == expected("train")
    assert read_index(target / "train").class_names == ("cat", "dog")


def test_what_is_left_out_is_named(folder, target, tmp_path, capsys):
    put(folder, {"train/.cow/1.jpg": encode(), "train/stray.jpg": encode(), "holdout/cat/1.jpg": encode()})
    assert pack(folder, target) == 0
    err = capsys.readouterr().err
    assert f"{folder}/train: hidden folders, left out: 1, the first .cow" in err
    assert f"{folder}/train: images in no class folder, left out: 1, the first stray.jpg" in err
    assert f"not used of {folder}: holdout" in err
    assert content(target) == expected("train")
    archive = tar_of(tmp_path / "a.tar", FILES | {"train/.cow/1.jpg": encode()})
    assert run("from-tar", archive, tmp_path / "tar", "--samples-per-shard", 4) == 0
    assert f"{archive}: hidden folders, left out: 1, the first train/.cow" in capsys.readouterr().err
    assert shard_bytes(tmp_path / "tar") == shard_bytes(target)


def test_a_class_that_is_hidden_in_train_alone_is_said_before_the_fault(folder, target, capsys):
    (folder / "train/cat").rename(folder / "train/.cat")
    with pytest.raises(ConfigError, match="val of .* has classes that train has not: cat"):
        pack(folder, target)
    assert "hidden folders, left out: 1, the first .cat" in capsys.readouterr().err
