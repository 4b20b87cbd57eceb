"""What is predicted: every image that a command names, once, in order; what is wrong with a name is said before."""

import shutil
import tarfile
from collections import Counter

import numpy as np
import pytest

from tests.shards import damage_image, picture, write
from xlatrain.config.schema import AugmentConfig, ShardsConfig
from xlatrain.data import order
from xlatrain.data.listed import ListedImages
from xlatrain.data.listing import find_images
from xlatrain.data.phase import Place
from xlatrain.data.storage.retry import DEFAULTS, ReadOptions
from xlatrain.errors import ConfigError


def listed(*paths, workers=0):
    config = ShardsConfig(root="", image_size=8, eval_padding=0, workers=workers, retries=0)
    parts = find_images(list(map(str, paths)), DEFAULTS, Counter())
    return ListedImages(parts, config, AugmentConfig(name="none"), 10)


def evaluated(split, batch=4, place=None):
    """Rows by number: the pixel at their corner, and whether they were skipped. Padding has none."""
    place, found = place or Place(0, 1), {}
    numbers = order.eval_numbers(split.samples, batch, place.process, place.processes, max(1, split.workers))
    for made, rows in zip(split.eval_batches(place, batch), numbers, strict=True):
        for row, number in enumerate(rows.tolist()):
            padding = made["mask"][row] == 0 and made["skipped"][row] == 0
            assert padding == (number < 0)
            if not padding:
                found[number] = (int(made["images"][row, 0, 0, 0]), bool(made["skipped"][row]))
    return found


@pytest.fixture
def folder(tmp_path):
    """Images at two depths, a hidden one, another file, a link back, and a shard of 70."""
    root = tmp_path / "photos"
    for i, name in enumerate(["b.png", "a/2.png", "a/1.PNG", "c/9.png"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(i))
    (root / "a" / "._1.png").write_bytes(b"macOS")
    (root / "a" / "notes.txt").write_text("no image")
    (root / "a" / "back").symlink_to(root)
    write(tmp_path / "shards", 70, per_shard=70)
    shutil.copy(tmp_path / "shards/shard-000000.tar", root / "b.tar")
    return root


def test_folders_are_walked_by_name_and_shards_in_them_read(folder):
    names = list(listed(folder).names())
    assert names[:3] == [str(folder / "a/1.PNG"), str(folder / "a/2.png"), str(folder / "b.png")]
    assert names[3:5] == [f"{folder}/b.tar/0000", f"{folder}/b.tar/0001"]
    assert names[-1] == str(folder / "c/9.png")
    assert len(names) == 74


def test_what_is_no_image_by_its_name_is_counted(folder):
    (folder / "c" / "phone.HEIC").touch()
    (folder / "README").touch()
    (folder / "index.json").touch()
    find_images([str(folder)], DEFAULTS, others := Counter())
    assert others == {".txt": 1, ".heic": 1, "without a suffix": 1}


def test_paths_come_in_the_order_given_as_often_as_given(folder):
    split = listed(folder / "b.png", folder / "a", folder / "b.png")
    assert list(split.names()) == [str(folder / n) for n in ("b.png", "a/1.PNG", "a/2.png", "b.png")]
    assert [sample.key for sample in split.read(order.plain_line(split.sizes), 0, 4)] == list(split.names())


def test_braces_and_an_index_name_shards(folder, tmp_path):
    write(tmp_path / "more", 25)
    assert listed(f"{tmp_path}/more/shard-{{000000..000001}}.tar").samples == 20
    assert listed(tmp_path / "more" / "index.json").samples == 25


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("processes", [1, 2])
def test_rows_are_numbered_as_they_are_filled_whoever_fills_them(folder, workers, processes):
    split = listed(folder, workers=workers)
    wanted = evaluated(listed(folder), batch=74)
    found = {}
    for process in range(processes):
        found |= evaluated(split, 5, Place(process, processes))
    assert found == wanted
    assert len(found) == 74


def test_what_cannot_be_read_is_skipped_and_told_why(folder):
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("no image at all")
    (folder / "z.png").write_bytes(picture(0)[:40])
    damage_image(folder / "b.tar", 1)
    split = listed(folder)
    (folder / "c/9.png").unlink()  # after it was listed
    preparer, names = split.preparer(), list(split.names())
    why = {
        names[n].removeprefix(f"{folder}/"): split.problem(n, preparer)
        for n, (_, skipped) in evaluated(split).items()
        if skipped
    }
    assert set(why) == {"empty.png", "text.png", "z.png", "b.tar/0001", "c/9.png"}
    assert why["empty.png"] == "it is empty"
    assert "no image that PIL reads: it starts with b'no image'" in why["text.png"]
    assert why["c/9.png"] == "there is no such file"
    assert all(why.values())


def test_shards_need_no_labels_but_one_image_a_sample(tmp_path):
    for name, content in (("1.png", picture(1)), ("2.txt", b"a caption"), ("3.png", picture(3)), ("3.jpg", picture(3))):
        (tmp_path / name).write_bytes(content)
    with tarfile.open(tmp_path / "plain.tar", "w") as archive:
        for name in ("1.png", "2.txt", "3.png", "3.jpg"):
            archive.add(tmp_path / name, name)
    split = listed(tmp_path / "plain.tar")
    assert [skipped for _, skipped in evaluated(split).values()] == [False, True, True]
    preparer = split.preparer()
    assert split.problem(1, preparer) == "has no image (jpg, jpeg, png, webp)"
    assert split.problem(2, preparer).startswith("has 2 images")


def test_addresses_are_read_as_files_are(folder, server):
    server.put("x/shard.tar", (folder / "b.tar").read_bytes())
    server.put("x/b.png", (folder / "b.png").read_bytes())
    split = listed(server.url("x/shard.tar"), server.url("x/b.png?signature=1"), server.url("x/none.png"))
    assert split.samples == 72
    server.put("x/b.png?signature=1", (folder / "b.png").read_bytes())
    found = evaluated(split)
    assert [found[i] for i in (0, 69)] == [(0, False), (int(np.uint8(round(69 % 17 * 255 / 16))), False)]
    assert (found[70][1], found[71][1]) == (False, True)
    assert split.problem(71, split.preparer()) == "there is no such file"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: [], "no image is named"),
        (lambda root: [root / "nowhere"], "there is no file or folder"),
        (lambda root: [root / "empty"], "empty holds no images"),
        (lambda root: [root / "short.tar"], "after sample '0000': the tar cannot be read on: cut short"),
        (lambda root: [f"{root}/x{{1..2"], "x{1..2"),
        (lambda root: ["ftpx://host/a.png"], "ftpx:// is not known"),
        (lambda root: ["http://127.0.0.1:9/folder"], "http://127.0.0.1:9/folder/index.json"),
    ],
)
def test_names_that_lead_nowhere_are_faults(make, words, tmp_path):
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    write(tmp_path / "shards", 20, per_shard=20)
    (tmp_path / "short.tar").write_bytes((tmp_path / "shards/shard-000000.tar").read_bytes()[:4000])
    with pytest.raises(ConfigError) as error:
        find_images(list(map(str, make(tmp_path))), ReadOptions(retries=0), Counter())
    assert words in str(error.value)
    assert all(fault.key == "PATH" and fault.cure for fault in error.value.faults)
