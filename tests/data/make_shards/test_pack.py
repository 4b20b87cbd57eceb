"""`xlatrain shards`: what is written is what was there, the same each time; what is wrong is found and named."""

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile

import numpy as np
import pytest
import webdataset
from PIL import Image

from xlatrain.cli.shards import shards
from xlatrain.data.make_shards import write
from xlatrain.data.make_shards.convert import convert
from xlatrain.data.make_shards.pictures import Picture, PictureSet, WriteOptions, split_by_class, unique_keys
from xlatrain.data.make_shards.resume import FolderState
from xlatrain.data.shard_format import Shard, read_index, read_shard, write_index, write_shard
from xlatrain.errors import ConfigError, DataError


def encode(kind="JPEG", mode="RGB", size=(16, 12), seed=0, **options):
    random = np.random.default_rng(seed)
    pixels = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8)).convert(mode)
    buffer = io.BytesIO()
    pixels.save(buffer, kind, **options)
    return buffer.getvalue()


def put(root, files):
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


FILES = {
    f"{split}/{name}/{i}.jpg": encode(seed=seed * 100 + i)
    for seed, (split, name, count) in enumerate(
        [("train", "cat", 7), ("train", "dog", 6), ("val", "cat", 2), ("val", "dog", 3)]
    )
    for i in range(count)
}


@pytest.fixture
def folder(tmp_path):
    return put(tmp_path / "src", FILES)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "dst"


def run(*arguments, processes=1):
    writing = [] if arguments[0] == "info" else ["--processes", processes]
    return shards([str(a) for a in (*arguments, *writing)])


def pack(source, target, *options, **kwargs):
    return run("from-folder", source, target, "--samples-per-shard", 4, *options, **kwargs)


def content(root, split="train"):
    index = read_index(root / split)
    return {s.key: (s.image, index.class_names[s.label]) for shard in index.shards for s in read_shard(index, shard)}


def shard_bytes(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.glob("*/*.tar"))}


def expected(split):
    of_split = {name.removeprefix(f"{split}/"): data for name, data in FILES.items() if name.startswith(f"{split}/")}
    return {name.removesuffix(".jpg"): (data, name.split("/")[0]) for name, data in of_split.items()}


def tar_of(path, files, compress=bytes):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(compress(buffer.getvalue()))
    return path


# Writing


def test_every_image_is_written_unchanged_under_its_class(folder, target, capsys):
    assert pack(folder, target) == 0
    assert content(target) == expected("train")
    assert content(target, "val") == expected("val")
    assert [s.samples for s in read_index(target / "train").shards] == [4, 4, 4, 1]
    assert sorted(p.name for p in (target / "val").iterdir()) == ["index.json", "shard-000000.tar", "shard-000001.tar"]
    assert "train" in capsys.readouterr().out
    assert run("verify", target) == 0


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


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["pack"],
        ["from-folder", "a"],
        ["from-folder", "a", "b", "--split", "2"],
        ["from-folder", "a", "b", "--quality", "80"],
        ["verify", "a", "--processes", "0"],
    ],
)
def test_wrong_arguments_end_with_2_and_help_with_0(arguments):
    assert shards(arguments) == 2
    assert shards(["from-tar", "--help"]) == 0


@pytest.mark.parametrize("option", ["--split", "--seed", "--quality", "--samples-per-shard"])
def test_a_word_where_a_number_belongs_is_named(option, capsys):
    assert shards(["from-folder", "a", "b", option, "x"]) == 2
    assert f"argument {option}: 'x' is no" in capsys.readouterr().err


# Archives


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


def test_a_tar_that_climbs_out_or_is_damaged_is_refused(target, tmp_path):
    with pytest.raises(ConfigError, match="climbs out"):
        run("from-tar", tar_of(tmp_path / "a.tar", {"../train/cat/1.jpg": encode()}), target)
    whole = gzip.compress(tar_of(tmp_path / "b.tar", FILES).read_bytes())
    (tmp_path / "c.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cannot be decompressed"):
        run("from-tar", tmp_path / "c.tar.gz", target)
    assert not target.exists()


# Shards of others, and damage


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


def sample(key, label="0", image=None):
    return {"__key__": key, "jpg": encode() if image is None else image, "cls": str(label).encode()}


def damaged(root, holds, **stated):
    """A split of one shard whose index says what `stated` says."""
    root.mkdir(parents=True)
    with webdataset.TarWriter(str(root / "s.tar")) as writer:
        for one in holds:
            writer.write(one)
    write_index(root, [Shard("s.tar", **({"samples": len(holds)} | stated))], ["cat", "dog"])
    return root


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
