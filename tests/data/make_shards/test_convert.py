"""`xlatrain shards`: what is written is what was there, the same each time; what is wrong is found and named."""

import io
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from tests.data.make_shards.packing import FILES, content, encode, expected, pack, put, run, shard_bytes
from xlatrain.data.make_shards import write
from xlatrain.data.make_shards.convert import convert
from xlatrain.data.make_shards.pictures import Picture, PictureSet, WriteOptions, split_by_class, unique_keys
from xlatrain.data.make_shards.resume import FolderState
from xlatrain.data.shard_format import read_index, write_shard
from xlatrain.errors import ConfigError


def test_every_image_is_written_unchanged_under_its_class(folder, target, capsys):
    assert pack(folder, target) == 0
    assert content(target) == expected("train")
    assert content(target, "val") == expected("val")
    assert [s.samples for s in read_index(target / "train").shards] == [4, 4, 4, 1]
    assert sorted(p.name for p in (target / "val").iterdir()) == ["index.json", "shard-000000.tar", "shard-000001.tar"]
    assert "train" in capsys.readouterr().out
    assert run("verify", target) == 0


@pytest.mark.slow
def test_bytes_do_not_depend_on_processes_and_order_is_mixed(folder, target, tmp_path):
    assert pack(folder, target) == 0
    assert pack(folder, tmp_path / "two", processes=2) == 0
    assert shard_bytes(target) == shard_bytes(tmp_path / "two")
    assert (target / "train/index.json").read_bytes() == (tmp_path / "two/train/index.json").read_bytes()
    labels = [name for _, name in content(target).values()]
    assert labels != sorted(labels)
    assert pack(folder, tmp_path / "three", "--seed", 1) == 0
    assert shard_bytes(target) != shard_bytes(tmp_path / "three")


def test_a_killed_run_goes_on_where_it_ended(folder, target, tmp_path, monkeypatch, capsys):
    """Protects the hours that a large data set takes, and that no half shard passes for a whole one."""
    made = []

    def dies(path, samples):
        if len(made) == 2:
            path.with_name(path.name + ".part").write_bytes(b"half")
            raise KeyboardInterrupt
        made.append(path.name)
        return write_shard(path, samples)

    monkeypatch.setattr(write, "write_shard", dies)
    assert pack(folder, target) == 130
    assert not list(target.rglob("*.part"))
    assert not (target / "train/index.json").exists()
    (target / "train" / made[0]).write_bytes(b"cut")  # its length tells
    written = []
    monkeypatch.setattr(write, "write_shard", lambda p, s: written.append(p.name) or write_shard(p, s))
    assert pack(folder, target) == 0
    assert "train: 1 of 4 shards there already" in capsys.readouterr().err
    assert made[1] not in written[:3]
    assert len(written) == 3 + 2  # and val
    monkeypatch.undo()
    assert pack(folder, tmp_path / "whole") == 0
    assert shard_bytes(target) == shard_bytes(tmp_path / "whole")


def test_a_complete_data_set_is_left_alone_and_another_plan_refused(folder, target, capsys):
    assert pack(folder, target) == 0
    before = {p: p.stat().st_mtime_ns for p in target.rglob("*")}
    assert pack(folder, target) == 0
    assert "already complete" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="another plan"):
        pack(folder, target, "--seed", 5)
    os.utime(folder / "train/cat/0.jpg", (1, 1))
    with pytest.raises(ConfigError, match="another plan"):
        pack(folder, target)
    assert {p: p.stat().st_mtime_ns for p in target.rglob("*")} == before


def test_two_runs_do_not_write_one_folder_at_once(folder, target, monkeypatch):
    seen = []

    def second(path, samples):
        other = FolderState(path.parent, "another", {})
        with pytest.raises(ConfigError, match="another run"):
            write.write_split(other, PictureSet("train", ("a",), ()), WriteOptions(), 1, False)
        seen.append(path)
        return write_shard(path, samples)

    monkeypatch.setattr(write, "write_shard", second)
    assert pack(folder, target) == 0
    assert len(seen) == 4 + 2


def test_foreign_files_in_the_target_are_not_touched(folder, target):
    put(target, {"train/shard-000000.tar": b"mine"})
    with pytest.raises(ConfigError, match="another plan"):
        pack(folder, target)
    assert (target / "train/shard-000000.tar").read_bytes() == b"mine"
    assert not (target / "val").exists()


BAD = {
    "train/cat/empty.jpg": (b"", "empty"),
    "train/cat/cut.jpg": (encode(size=(64, 64))[:-200], "truncated"),
    "train/dog/text.png": (b"<html>", "no image"),
    "val/dog/bomb.png": (encode("PNG", "1", (4, 4)), "pixels are more than"),
}


@pytest.fixture
def bad_folder(folder):
    buffer = io.BytesIO()
    Image.new("1", (8_100, 8_000)).save(buffer, "PNG")
    return put(folder, {name: data for name, (data, _) in BAD.items()} | {"val/dog/bomb.png": buffer.getvalue()})


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_bad_files_are_all_listed_and_nothing_is_called_complete(bad_folder, target, capsys, processes):
    assert pack(bad_folder, target, processes=processes) == 1
    err = capsys.readouterr().err
    for name, (_, reason) in BAD.items():
        split, _, rest = name.partition("/")
        line = next(x for x in (target / split / "bad_files.txt").read_text().splitlines() if x.startswith(rest + "\t"))
        assert reason in line
        assert rest in err
    assert not list(target.rglob("index.json"))


def test_skip_bad_leaves_them_out_and_reuses_what_was_written(bad_folder, target, monkeypatch, capsys):
    assert pack(bad_folder, target) == 1
    written = []
    monkeypatch.setattr(write, "write_shard", lambda p, s: written.append(p.name) or write_shard(p, s))
    assert pack(bad_folder, target, "--skip-bad") == 0
    assert written == []
    assert content(target) == expected("train")
    assert len((target / "train/bad_files.txt").read_text().splitlines()) == 3
    assert "3 bad files" in capsys.readouterr().err
    assert run("verify", target) == 0
    assert pack(bad_folder, target, "--skip-bad") == 0
    assert pack(bad_folder, target) == 1  # without --skip-bad they still count


def test_a_shard_of_bad_files_alone_is_no_shard(tmp_path, target):
    put(
        tmp_path / "s",
        {f"train/a/{i}.jpg": b"x" for i in range(12)} | {"train/a/x.jpg": encode(), "val/a/y.jpg": encode()},
    )
    assert pack(tmp_path / "s", target, "--skip-bad") == 0
    assert [s.samples for s in read_index(target / "train").shards] == [1]
    assert len(list((target / "train").glob("*.tar"))) == 1


def test_oddities_are_stored_by_true_type_and_counted(tmp_path, target, capsys):
    """ImageNet has a PNG named JPEG and CMYK JPEGs; a suffix that lies would make readers fail."""
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "png.JPEG": encode("PNG"),
        "cmyk.JPEG": encode(mode="CMYK"),
        "turned.jpg": encode(exif=exif),
        "gray.jpg": encode(mode="L"),
        "a.bmp": encode("BMP"),
        "b.GIF": encode("GIF"),
        "c.tiff": encode("TIFF"),
        "d.webp": encode("WEBP"),
        "notes.txt": b"?",
        "._png.JPEG": b"?",
    }
    put(tmp_path / "s", {f"train/a/{n}": d for n, d in files.items()} | {"val/a/v.jpg": encode()})
    assert pack(tmp_path / "s", target) == 0
    out, err = capsys.readouterr()
    row = next(line.split() for line in out.splitlines() if line.startswith("train"))
    assert row[5:] == ["1", "1", "1", "1", "3"]
    for heading in ("wrong suffix", "CMYK", "EXIF orientation", "gray", "converted to png"):
        assert heading in out
    assert "ignored: 2 other files" in err
    with (
        tarfile.open(target / "train/shard-000000.tar") as first,
        tarfile.open(target / "train/shard-000001.tar") as second,
    ):
        names = {n for t in (first, second) for n in t.getnames() if not n.endswith(".cls")}
    kinds = {
        "png": "png",
        "cmyk": "jpg",
        "turned": "jpg",
        "gray": "jpg",
        "a": "png",
        "b": "png",
        "c": "png",
        "d": "webp",
    }
    assert names == {f"a/{stem}.{kind}" for stem, kind in kinds.items()}
    stored = content(target)
    assert stored["a/cmyk"][0] == files["cmyk.JPEG"]
    assert stored["a/turned"][0] == files["turned.jpg"]
    converted = np.array(Image.open(io.BytesIO(stored["a/a"][0])))
    assert (converted == np.array(Image.open(io.BytesIO(files["a.bmp"])))).all()
    assert run("verify", target) == 0


def test_short_side_makes_large_images_smaller_and_leaves_the_others(tmp_path, target):
    large, small = encode(size=(60, 40)), encode(size=(30, 20))
    put(
        tmp_path / "s",
        {"train/a/large.jpg": large, "train/a/small.jpg": small, "val/a/p.png": encode("PNG", size=(20, 90))},
    )
    assert pack(tmp_path / "s", target, "--short-side", 20, "--quality", 80) == 0
    stored = content(target)
    assert stored["a/small"][0] == small
    with Image.open(io.BytesIO(stored["a/large"][0])) as image:
        assert (image.format, image.size) == ("JPEG", (30, 20))
        wanted = np.array(Image.open(io.BytesIO(large)).resize((30, 20), Image.Resampling.BICUBIC), np.float32)
        assert np.abs(np.array(image, np.float32) - wanted).mean() < 20
    assert content(target, "val")["a/p"][0] == encode("PNG", size=(20, 90))
    assert len(convert(large, "x.jpg", WriteOptions(short_side=20, quality=30)).data) < len(stored["a/large"][0])


def test_keys_are_unique_and_hold_no_dots():
    """A dot would begin the type of a sample, and a key twice makes one sample of two."""
    names = ["a.b/x.jpg", "a.b/x.png", "a.b/x-1.jpg", "a.b/my cat.v2.jpg", "a.b/my_cat_v2.JPEG"]
    assert unique_keys(names) == ["a.b/x", "a.b/x-2", "a.b/x-1", "a.b/my_cat_v2", "a.b/my_cat_v2-1"]
    long = unique_keys(["c/" + "é" * 200 + f"{i}.jpg" for i in range(2)])
    assert len(set(long)) == 2
    assert max(len(k.encode()) for k in long) < 95


def test_collisions_survive_the_way_through_a_shard(tmp_path, target):
    odd = {"x.jpg": encode(), "x.png": encode("PNG"), "y z.1.jpg": encode(seed=3), "n" * 200 + ".jpg": encode(seed=4)}
    put(tmp_path / "s", {f"train/a.b/{n}": d for n, d in odd.items()} | {"val/a.b/v.jpg": encode()})
    assert pack(tmp_path / "s", target) == 0
    assert sorted(data for data, _ in content(target).values()) == sorted(odd.values())
    assert run("verify", target) == 0


def test_split_takes_its_share_of_each_class(tmp_path, target):
    pictures = [
        Picture(f"{c}/{i:03d}.jpg", "", 0, 0) for c, n in (("a", 40), ("b", 10), ("c", 2), ("d", 1)) for i in range(n)
    ]
    train, val = split_by_class(pictures, 0.2, seed=1)
    assert [sum(p.class_name == c for p in val) for c in "abcd"] == [8, 2, 1, 0]
    assert sorted(p.name for p in train + val) == [p.name for p in pictures]
    assert val != split_by_class(pictures, 0.2, seed=2)[1]
    put(tmp_path / "s", {n.removeprefix("train/"): d for n, d in FILES.items() if n.startswith("train/")})
    assert pack(tmp_path / "s", target, "--split", 0.3) == 0
    both = content(target), content(target, "val")
    assert (len(both[0]), len(both[1])) == (9, 4)
    assert both[0] | both[1] == expected("train")
