"""Stores that are not there, or not for who asks; versions that do not fit; images too small for a model."""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.faults import faults_of
from xlatrain.data.shard_format import read_index
from xlatrain.data.storage import retry
from xlatrain.errors import ConfigError
from xlatrain.preflight import versions
from xlatrain.preflight.check import check
from xlatrain.preflight.writable import store_faults

REGISTRY = importlib.import_module("fsspec.registry")._registry


class DefaultCredentialsError(Exception):
    """As google.auth raises it."""


class Bucket(MemoryFileSystem):
    """A store under gs:// in which one bucket is there."""

    protocol = "gs"
    store, pseudo_dirs, error = {}, [""], None

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("gs://").strip("/")

    def exists(self, path, **_):
        return self._strip_protocol(path).startswith("/mine")

    def _see(self, path):
        if self.error is not None:
            raise self.error
        if not self.exists(path):
            raise FileNotFoundError(path)

    def pipe_file(self, path, value, **_):
        self._see(path)
        return super().pipe_file(path, value)

    def info(self, path, **_):
        self._see(path)
        return super().info(path)

    def rm_file(self, path):
        self.store.pop(self._strip_protocol(path), None)


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setitem(REGISTRY, "gs", Bucket)
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(retry, "LONGEST_WAIT", 0.0)
    return Bucket


DENIED = [
    DefaultCredentialsError("Your default credentials were not found."),
    OSError("Forbidden: https://storage.googleapis.com/..."),
    RuntimeError("Anonymous caller does not have storage.objects.get access, 401"),
    PermissionError("Access Denied"),
]


def test_a_store_that_can_be_written_is_left_as_it_was(bucket):
    assert store_faults("run.root", "gs://mine/runs") == []
    assert not bucket.store
    assert store_faults("run.root", "memory://runs") == []


def test_a_bucket_that_is_not_there(bucket):
    (fault,) = store_faults("run.root", "gs://others/runs")
    assert (fault.key, fault.problem) == ("run.root", "there is no bucket gs://others")
    assert fault.cure.startswith("gcloud storage ls")
    with pytest.raises(ConfigError, match="there is no bucket gs://others"):
        read_index("gs://others/shards/train")
    with pytest.raises(ConfigError, match="there is no gs://mine/shards/train/index"):
        read_index("gs://mine/shards/train")


@pytest.mark.parametrize("error", DENIED, ids=lambda e: type(e).__name__)
def test_no_credentials_are_told_with_the_command_that_signs_in(bucket, monkeypatch, error):
    monkeypatch.setattr(Bucket, "error", error)
    (fault,) = store_faults("run.root", "gs://mine/runs")
    assert fault.cure.startswith("gcloud auth application-default login")
    assert "cannot be written" in fault.problem
    with pytest.raises(ConfigError, match="gcloud auth application-default login") as raised:
        read_index("gs://mine/shards/train")
    assert "cannot be read" in str(raised.value)


def test_a_package_that_is_missing_and_a_store_that_is_silent(monkeypatch, bucket):
    (fault,) = store_faults("run.root", "nothing://x")
    assert "is not known" in fault.problem
    monkeypatch.setattr(Bucket, "pipe_file", lambda *_, **__: __import__("threading").Event().wait())
    (fault,) = store_faults("run.root", "gs://mine/x", seconds=0.1)
    assert fault.problem == "gs://mine/x does not answer within 0.1 s"
    if importlib.util.find_spec("gcsfs") is None:
        monkeypatch.delitem(REGISTRY, "gs")
        (fault,) = store_faults("run.root", "gs://mine/x")
        assert fault.cure == "pip install 'xlatrain[gcs]'"


def test_a_run_writes_to_this_machine():
    (fault,) = faults_of(check, ["run.root=gs://me:hunter2@bucket/runs"])
    assert fault.key == "run.root"
    assert "gs://***@bucket/runs is no folder of this machine" in fault.problem


@pytest.mark.parametrize(
    ("changed", "key", "cure"),
    [
        ({"torch": "2.8.0+cpu"}, "torch_xla", "pip install 'torch==2.9.*' 'torch_xla==2.9.0'"),
        ({"timm": "1.0.9"}, "timm", "pip install 'timm>=1.0.20'"),
        ({"timm": "0.9.16"}, "timm", "pip install 'timm>=1.0.20'"),
    ],
)
def test_versions_that_do_not_fit_are_a_fault_that_pip_cures(monkeypatch, changed, key, cure):
    find = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: changed.get(name) or find(name))
    (fault,) = faults_of(check, [])
    assert (fault.key, fault.cure) == (key, cure)


def test_a_python_without_its_library_is_a_fault_before_a_replica_finds_it(monkeypatch):
    def no_library(name):
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(versions.ctypes, "CDLL", no_library)
    (fault,) = faults_of(check, [])
    library = f"libpython3.{sys.version_info[1]}"
    assert (fault.key, fault.problem.split()[3]) == ("torch_xla", f"{library}.so.1.0,")
    assert fault.cure.startswith(f"apt-get install {library},")


def test_limits_of_versions_are_those_of_the_package():
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name, least in versions._LEAST.items():
        assert f'"{name}>={".".join(map(str, least))},' in declared


def test_images_smaller_than_the_stride_are_warned_of():
    small = ["data.image_size=16"]
    (note,) = [n for n in check(small).notes if "makes one pixel" in n]
    assert note.startswith("warning: data.image_size has images of 16 pixels")
    assert "test_efficientnet makes one pixel of 32" in note
    assert "take 32 or more" in note
    assert not [n for n in check([]).notes if "makes one pixel" in n]
    own = [*small, "model._target_=tests.preflight.test_places.net"]
    assert not [n for n in check(own).notes if "makes one pixel" in n]  # it does not tell
    sizes = "augment.sizes=[{until: 5ep, size: 16}, {size: 32}]"
    assert any(n.startswith("warning: augment.sizes has images of 16") for n in check([sizes]).notes)


def net(num_classes):
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, num_classes))
