"""Hostile files and messages: nothing of them is run, and none leaves its folder."""

import ast
import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import xlatrain
from tests.data.http_server import serve
from tests.faults import faults_of
from tests.shards import write
from xlatrain.bundle.read import read_bundle
from xlatrain.data.make_shards.folder import find_images
from xlatrain.data.make_shards.resume import PROGRESS, open_state
from xlatrain.data.shard_format import read_index
from xlatrain.data.storage.tar import TarError, read_members
from xlatrain.errors import ConfigError, DataError
from xlatrain.preflight.check import check, check_evaluation
from xlatrain.preflight.facts import Facts
from xlatrain.preflight.lengths import Duration
from xlatrain.xla.message import pack, unpack
from xlatrain.xla.temporary import read_own

PACKAGE = Path(xlatrain.__file__).parent


class Evil:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# Code


@pytest.mark.slow
def test_nothing_that_runs_code_from_data_is_used_but_where_it_is_known():
    """pickle, torch.load, np.load(allow_pickle), yaml's loaders, eval and exec, by the files that may use them: bytes
    of this user's own processes (launch), and of nobody else."""
    known = {
        "xla/launch.py": {"pickle.loads"},  # of a folder that only this user can enter: read_own
        "xla/message.py": {"pickle.Unpickler"},  # the one that refuses
    }
    risky = {"loads", "load", "Unpickler", "full_load", "unsafe_load", "load_all"}
    safe = {"json.loads", "json.load", "OmegaConf.load", "np.load"}
    for path in PACKAGE.rglob("*.py"):
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
                found.add(node.arg)
            if isinstance(node, ast.Attribute) and node.attr in risky and isinstance(node.value, ast.Name):
                found.add(f"{node.value.id}.{node.attr}")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
                found.add(node.func.id)
        assert found - safe == known.get(path.relative_to(PACKAGE).as_posix(), set()), path


PLAIN = [1, None, "a", {"a": [1.5, (2, b"x")]}, Duration(1.0, "ep"), np.arange(3), np.float32(1)]


@pytest.mark.parametrize("value", PLAIN)
def test_plain_values_go_between_processes(value):
    assert np.all(unpack(pack(value)) == value)


def test_a_message_of_a_stranger_runs_nothing(tmp_path):
    with pytest.raises(TypeError, match="none of them"):
        unpack(pickle.dumps(Evil(tmp_path / "made")))
    with pytest.raises(TypeError):
        unpack(b"cxlatrain.files\nuser_cache\n(tR.")  # a function of ours
    with pytest.raises(TypeError, match="no message of this run"):
        unpack(b"")
    assert not (tmp_path / "made").exists()
    with pytest.raises(TypeError, match="goes between processes as numbers, text"):
        pack(torch.zeros(1))


def test_a_result_is_unpickled_only_from_a_folder_that_is_closed(tmp_path):
    folder = tmp_path / "channel"
    folder.mkdir(mode=0o700)
    (folder / "result.pickle").write_bytes(b"x")
    assert read_own(folder / "result.pickle") == b"x"
    folder.chmod(0o770)
    with pytest.raises(PermissionError, match="alone"):
        read_own(folder / "result.pickle")
    folder.chmod(0o700)
    (folder / "result.pickle").rename(tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", folder / "result.pickle")
    with pytest.raises(OSError):
        read_own(folder / "result.pickle")
    os.symlink(folder, tmp_path / "link")
    with pytest.raises(PermissionError):
        read_own(tmp_path / "link" / "result.pickle")
    if os.getuid() == 0:
        os.chown(folder, 12345, 12345)
        with pytest.raises(PermissionError):
            read_own(folder / "elsewhere")


@pytest.mark.parametrize("variable", [None, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_weights_to_start_from_run_no_code(tmp_path, monkeypatch, variable):
    if variable:
        monkeypatch.setenv(variable, "1")
    torch.save({"state_dict": Evil(tmp_path / "made")}, tmp_path / "evil.pth")
    (fault,) = faults_of(check, [f"+model.kwargs.checkpoint_path={tmp_path}/evil.pth"])
    assert fault.key == "model.kwargs.checkpoint_path"
    assert not (tmp_path / "made").exists()
    assert os.environ.get(variable or "TORCH_FORCE_WEIGHTS_ONLY_LOAD") == ("1" if variable else None)


def weights_that_say(path, **options):
    facts = Facts(False, None, {"model.name": "test_efficientnet", **options}, (), "digits", {})
    save_file({"a": torch.zeros(1)}, path, {"xlatrain": facts.to_json()})
    return [f"weights={path}"]


def test_weights_name_no_code_to_run(tmp_path):
    given = weights_that_say(tmp_path / "w.safetensors", **{"model._target_": "os.mkdir"})
    faults = faults_of(check_evaluation, given)
    assert faults[0].key == "model._target_"
    assert faults[0].cure.endswith("say so: model._target_=os.mkdir")


def test_weights_name_no_other_weights_and_no_other_options(tmp_path):
    torch.save({"state_dict": Evil(tmp_path / "made")}, tmp_path / "evil.pth")
    options = {"model.kwargs.checkpoint_path": f"{tmp_path}/evil.pth", "model.kwargs.pretrained": True}
    options |= {"run.root": "/elsewhere", "data.root": "/elsewhere", "weights": "/elsewhere"}
    faults = faults_of(check_evaluation, weights_that_say(tmp_path / "w.safetensors", **options))
    assert {f.key for f in faults} == {"weights"}  # its one tensor does not fit the model
    assert "does not fit" in faults[0].problem
    assert not (tmp_path / "made").exists()


# Paths


@pytest.mark.parametrize("name", ["../a.tar", "x/../../a.tar", "a\n.tar", "gs://b/../a.tar"])
def test_an_index_names_shards_of_its_folder(tmp_path, name):
    (tmp_path / "index.json").write_text(json.dumps({"class_names": ["a"], "shards": [{"name": name, "samples": 1}]}))
    with pytest.raises(ConfigError, match="leads out of its folder"):
        read_index(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "file:///etc/passwd"])
def test_an_index_of_another_machine_names_no_file_of_this_one(name):
    with serve() as server:
        content = {"class_names": ["a"], "shards": [{"name": name, "samples": 1}]}
        server.put("d/index.json", json.dumps(content).encode())
        with pytest.raises(ConfigError, match="leads out of its folder"):
            read_index(server.url("d"))


def tar_of(name, kind=tarfile.REGTYPE, link=""):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        archive.addfile(member)
    file.seek(0)
    return file


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "a/../../b.jpg"])
def test_members_of_a_tar_do_not_climb_out(name):
    with pytest.raises(TarError, match="climbs out"):
        list(read_members(tar_of(name)))


def test_links_of_a_tar_lead_nowhere():
    assert list(read_members(tar_of("a.jpg", tarfile.SYMTYPE, "/etc/passwd"))) == []
    with pytest.raises(TarError, match="hard link"):
        list(read_members(tar_of("a.jpg", tarfile.LNKTYPE, "/etc/passwd")))


def test_links_out_of_a_folder_of_images_are_told(tmp_path):
    (tmp_path / "photos/cat").mkdir(parents=True)
    (tmp_path / "private").mkdir()
    for path in (tmp_path / "photos/cat/own.jpg", tmp_path / "private/a.jpg"):
        path.write_bytes(b"")
    os.symlink("own.jpg", tmp_path / "photos/cat/inside.jpg")
    assert not find_images(tmp_path / "photos").notes
    os.symlink(tmp_path / "private/a.jpg", tmp_path / "photos/cat/b.jpg")
    os.symlink(tmp_path / "private", tmp_path / "photos/dog")
    (note,) = find_images(tmp_path / "photos").notes
    assert note.endswith("links that lead out of it, followed: 2, the first cat/b.jpg")


def test_what_an_earlier_run_left_names_only_its_own_shards(tmp_path):
    progress = tmp_path / "train" / PROGRESS
    progress.mkdir(parents=True)
    (tmp_path / "precious.tar").write_bytes(b"")
    (tmp_path / "train/shard-000000.tar").write_bytes(b"")
    (progress / "plan.json").write_text('{"fingerprint": "f"}')
    shard = {"name": "../precious.tar", "samples": 0, "bytes": 0, "marks": []}
    (progress / "shard-000000.json").write_text(json.dumps({"shard": shard, "counts": {}, "bad": []}))
    assert open_state(tmp_path / "train", "f").finished == {}


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\nb", "a\x1b[2J", "."])
def test_the_name_of_a_run_stays_under_its_root(name, tmp_path):
    (fault,) = faults_of(check, [f"run.root={tmp_path}", f"run.name='{name}'"])
    assert fault.key == "run.name"


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "link"])
def test_a_bundle_names_files_of_its_folder(tmp_path, name, monkeypatch):
    from xlatrain.bundle import read

    manifest = type("M", (), {"files": {name: ""}, "steps": {}})
    monkeypatch.setattr(read, "_read_manifest", lambda folder: manifest)
    os.symlink("/etc/passwd", tmp_path / "link")
    with pytest.raises(DataError, match="is no file of its folder"):
        read_bundle(tmp_path)


def test_shards_of_our_own_are_still_read(tmp_path):
    write(tmp_path)
    assert read_index(tmp_path).samples == 25
