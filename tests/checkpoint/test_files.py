"""A checkpoint is there whole or not at all, on a disk or in a store; what is damaged is passed over and named."""

import io
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from safetensors.torch import load_file, save_file

from tests.checkpoint.states import FACTS, same_bits, state
from xlatrain.checkpoint.manifest import MANIFEST, TENSORS, DamagedError, Manifest, name_of, number, step_of
from xlatrain.checkpoint.read import check_tensors, find_newest, read_manifest, read_tensors
from xlatrain.checkpoint.store import LocalStore, RemoteStore, open_store
from xlatrain.checkpoint.tensors import write_tensors
from xlatrain.checkpoint.write import write_checkpoint


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    if request.param == "disk":
        return open_store(str(tmp_path / "new" / "checkpoints"))
    fsspec.filesystem("memory").store.clear()
    return open_store(f"memory://bucket/{tmp_path.name}")


def test_what_is_read_has_the_bits_that_were_written(store):
    assert store.names() == []
    assert find_newest(store, pytest.fail).manifest is None
    for step in (3, 20, 100):
        given = state(step)
        write_checkpoint(store, step, given, {**FACTS, "step of it": step})
        assert given == {}  # let go of on the way
    assert store.names() == [name_of(3), name_of(20), name_of(100)]
    found = find_newest(store, pytest.fail)
    assert (found.manifest.step, found.manifest.facts["step of it"], found.damaged) == (100, 100, ())
    assert same_bits(read_tensors(store, found.manifest.name), state(100))
    assert str(number(found.manifest.facts["metrics"]["loss"])) == "nan"
    store.remove(name_of(100))
    assert find_newest(store, pytest.fail).manifest.step == 20
    write_checkpoint(store, 20, state(21), FACTS)  # in the place of the one that is there
    assert same_bits(read_tensors(store, name_of(20)), state(21))


def test_the_file_is_one_of_safetensors(tmp_path):
    with (tmp_path / "ours").open("wb") as file:
        write_tensors(file, state())
    save_file(state(), tmp_path / "theirs")
    assert same_bits(load_file(tmp_path / "ours"), load_file(tmp_path / "theirs"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    store = LocalStore(tmp_path_factory.mktemp("sound"))
    small = {"params": state()["params"][:40], "step": state()["step"]}
    write_checkpoint(store, 7, small, FACTS)
    return {file: (store.folder / name_of(7) / file).read_bytes() for file in (TENSORS, MANIFEST)}


def judged(folder, files):
    """What is wrong with a checkpoint of these files; None where nothing is."""
    name, target = name_of(7), folder / name_of(7)
    target.mkdir(parents=True, exist_ok=True)
    for file in (TENSORS, MANIFEST):
        (target / file).unlink(missing_ok=True)
        if file in files:
            (target / file).write_bytes(files[file])
    try:
        check_tensors(LocalStore(folder), read_manifest(LocalStore(folder), name))
    except DamagedError as error:
        return str(error)
    return None


@pytest.mark.parametrize("file", [TENSORS, MANIFEST])
def test_a_file_that_ends_at_any_byte_is_found_out(tmp_path, written, file):
    assert judged(tmp_path, written) is None
    harmless = {len(written[file]) - 1} if file == MANIFEST else set()  # the manifest's last line break
    for size in range(len(written[file])):
        problem = judged(tmp_path, {**written, file: written[file][:size]})
        assert (problem is None) == (size in harmless), size
        assert problem is None or file in problem


@pytest.mark.parametrize("file", [TENSORS, MANIFEST])
def test_a_flipped_bit_is_found_out_or_changes_nothing(tmp_path, written, file):
    for place in range(0, len(written[file]), 3):
        content = bytearray(written[file])
        content[place] ^= 1 << place % 7
        problem = judged(tmp_path, {**written, file: bytes(content)})
        if problem is None:  # one space for another
            assert Manifest.parse(bytes(content), name_of(7)) == Manifest.parse(written[file], name_of(7))


def resigned(**changes):
    """A manifest of somebody who knows how to sign one."""
    facts = {"a": 1, **changes}
    step, size, sha = (facts.pop(k, d) for k, d in (("step", 7), ("bytes", 0), ("sha256", "0" * 64)))
    return {MANIFEST: Manifest(step, size, sha, facts).to_json(), TENSORS: b""}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "manifest.json is missing"),
        ({MANIFEST: b"{"}, "no JSON"),
        ({MANIFEST: b"[" * 100_000}, "no JSON"),
        ({MANIFEST: b"\xff\xfe"}, "no JSON"),
        ({MANIFEST: b"[]"}, "not one of"),
        ({MANIFEST: b'{"format": "other"}'}, "not one of"),
        ({MANIFEST: json.dumps({"format": "xlatrain checkpoint", "version": 9}).encode()}, "version 9"),
        (resigned(step=8), "is of step 8"),
        (resigned(step=-1), "as they should be"),
        (resigned(step=True), "as they should be"),
        (resigned(bytes=1 << 62), "has 0 bytes, and 4,611"),
        (resigned(bytes="1"), "as they should be"),
        (resigned(sha256="../../etc/passwd"), "as they should be"),
        (resigned(), "SHA-256 does not fit"),
        ({**resigned(), TENSORS: None}, "state.safetensors is missing"),
    ],
)
def test_hostile_and_broken_manifests_are_refused_by_name(tmp_path, files, words):
    assert words in judged(tmp_path, {k: v for k, v in files.items() if v is not None})


def test_a_manifest_without_end_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("xlatrain.checkpoint.read.MOST_BYTES", 100)
    assert "larger" in judged(tmp_path, resigned())


def test_names_that_are_none_of_a_checkpoint_are_not_looked_at(tmp_path):
    for name in (
        "step-7",
        "step-000000007.part",
        ".step-000000009.part",
        "step-0000000007",
        "best",
        "..",
        "step-00000000x",
    ):
        assert step_of(name) is None
        (tmp_path / name).mkdir(exist_ok=True)
    assert LocalStore(tmp_path).names() == []
    assert step_of("step-000000007") == 7
    assert step_of(name_of(10**10)) == 10**10


@pytest.mark.parametrize(
    "header", [b"{", b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}',
               b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'],
)  # fmt: skip
def test_tensors_that_are_none_are_refused(tmp_path, header):
    content = struct.pack("<Q", len(header)) + header + b"0000"
    (tmp_path / name_of(7)).mkdir()
    (tmp_path / name_of(7) / TENSORS).write_bytes(content)
    with pytest.raises(DamagedError, match="cannot be read"):
        read_tensors(LocalStore(tmp_path), name_of(7))


def test_the_newest_sound_one_is_found_and_each_that_is_passed_over_is_named(tmp_path):
    store, said = LocalStore(tmp_path), []
    for step in (1, 2, 3, 4):
        write_checkpoint(store, step, state(step), FACTS)
    (tmp_path / name_of(4) / MANIFEST).unlink()
    with (tmp_path / name_of(3) / TENSORS).open("r+b") as file:
        file.seek(-9, io.SEEK_END)
        file.write(b"x")
    (tmp_path / name_of(2) / TENSORS).write_bytes(b"")
    found = find_newest(store, said.append)
    assert (found.manifest.step, found.damaged) == (1, (name_of(4), name_of(3), name_of(2)))
    for line, name, words in zip(said, found.damaged, ("missing", "SHA-256", "has 0 bytes"), strict=True):
        assert line.startswith(f"warning: the checkpoint {tmp_path}/{name} is passed over: ")
        assert words in line


def test_in_a_store_one_without_manifest_was_never_finished(tmp_path):
    fsspec.filesystem("memory").store.clear()
    store, said = RemoteStore("memory://unfinished"), []
    fsspec.filesystem("memory").pipe(f"/unfinished/{name_of(5)}/{TENSORS}", b"abc")
    assert find_newest(store, said.append).damaged == ()
    assert "manifest.json is missing" in said[0]


def test_bytes_are_on_the_disk_before_names_are(tmp_path, monkeypatch):
    """fsync of what has new folders, of each file, then of the folder, then the name, then the folder that has it."""
    events, fsync, rename = [], os.fsync, Path.rename

    def record_fsync(descriptor):
        events.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def record_rename(self, target):
        events.append(("rename", self.name, Path(target).name))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "rename", record_rename)
    write_checkpoint(LocalStore(tmp_path / "b" / "c"), 7, state(), FACTS)
    draft = f".{name_of(7)}.part"
    assert events == [
        ("fsync", tmp_path.name),
        ("fsync", "b"),
        ("fsync", TENSORS),
        ("fsync", MANIFEST),
        ("fsync", draft),
        ("rename", draft, name_of(7)),
        ("fsync", "c"),
    ]


def test_a_disk_that_fills_hurts_nothing(tmp_path):
    store = LocalStore(tmp_path)
    write_checkpoint(store, 1, state(1), FACTS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in (0, 100, 5000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                write_checkpoint(store, 2, state(2), FACTS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [p.name for p in tmp_path.iterdir()] == [name_of(1)]
    write_checkpoint(store, 2, state(2), FACTS)
    assert find_newest(store, pytest.fail).manifest.step == 2


_WRITER = """
import sys, itertools
from tests.checkpoint.states import FACTS, state
from xlatrain.checkpoint.store import open_store
from xlatrain.checkpoint.write import write_checkpoint
store = open_store(sys.argv[1])
for step in itertools.count(int(sys.argv[2])):
    write_checkpoint(store, step, state(step), FACTS)
    print(step, flush=True)
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_at_any_moment_leaves_what_it_had_finished(tmp_path):
    """Three times, each going on from what the one before left."""
    draw, store, begin = random.Random(4), LocalStore(tmp_path / "c"), 1
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(store.folder), str(begin)], stdout=subprocess.PIPE, text=True
        )
        last = int(process.stdout.readline())
        for _ in range(draw.randrange(60)):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        last = int(([last, *process.stdout.read().split()])[-1])
        process.wait()
        found = find_newest(store, pytest.fail).manifest  # none is damaged, whatever was under way
        assert found.step in (last, last + 1)
        assert same_bits(read_tensors(store, found.name), state(found.step))
        begin = found.step + 1
    write_checkpoint(store, begin, state(begin), FACTS)
    assert not [p for p in store.folder.iterdir() if p.name.startswith(".")]  # what they left is cleared away
