"""Variables, cores, versions, machines that meet, data, room: each message once."""

import importlib.metadata
import socket

import pytest

from tests.data.http_server import serve
from xlatrain.doctor import environment, network, storage
from xlatrain.doctor.environment import check_threads, check_variables
from xlatrain.doctor.network import check_coordinator
from xlatrain.doctor.software import check_versions
from xlatrain.doctor.storage import check_reading, check_space
from xlatrain.errors import ConfigError
from xlatrain.preflight import space
from xlatrain.preflight.check import check


@pytest.mark.parametrize("name", ["TPU_PROCESS_ADDRESSES", "TPU_VISIBLE_CHIPS", "TPU_PROCESS_BOUNDS"])
def test_a_stale_variable_of_the_tpu_is_named_with_what_unsets_it(fake, examined, name):
    machine = fake.machine({name: "2,2,1"})
    ((status, _, cure),) = examined(check_variables, machine)
    assert (status, cure) == ("note", f"unset {name}")  # it does nothing here
    ((status, text, cure),) = examined(check_variables, machine, "cluster=tpu_v4_8")
    assert (status, cure) == ("failed", f"unset {name}")
    assert f"{name}=2,2,1 wins over what the metadata server says" in text


def test_variables_that_stand_in_for_the_server_are_not_stale(fake, examined):
    variables = {"TPU_SKIP_MDS_QUERY": "1", "TPU_PROCESS_BOUNDS": "1,1,1", "CLOUD_TPU_TASK_ID": "0"}
    assert examined(check_variables, fake.machine(variables), "cluster=tpu_v4_8") == []


@pytest.mark.parametrize(
    ("variables", "status", "says"),
    [
        ({"XLA_USE_BF16": "1"}, "failed", "silently turn float32 state into bf16"),
        ({"XLA_COMPILE_CACHE_PATH": "/x"}, "failed", "XLA_COMPILE_CACHE_PATH does nothing"),
        ({"XLA_PERSISTENT_CACHE_PATH": "/x"}, "failed", "no program back on a TPU"),
        ({"PJRT_DEVICE": "CUDA"}, "note", "PJRT_DEVICE=CUDA has no effect"),
        ({"XLA_FLAGS": "--a=b"}, "note", "XLA_FLAGS=--a=b holds for each run"),
        ({"PYTHONDONTWRITEBYTECODE": "1"}, "note", "compiles torch's files anew"),
    ],
)
def test_variables_that_do_something_else_than_they_seem(fake, examined, variables, status, says):
    ((found, text, cure),) = examined(check_variables, fake.machine(variables), "cluster=tpu_v4_8")
    assert found == status
    assert says in text
    assert cure.startswith(f"unset {next(iter(variables))}")


def test_threads_and_cores(fake, examined, monkeypatch):
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda pid: set(range(8)))
    assert examined(check_threads, fake.machine()) == [("ok", "8 cores", "")]
    said = examined(check_threads, fake.machine({"OMP_NUM_THREADS": "64", "MKL_NUM_THREADS": "many"}))
    assert ("failed", "OMP_NUM_THREADS=64 on 8 cores: they wait for each other", "unset OMP_NUM_THREADS") in said
    assert ("failed", "MKL_NUM_THREADS=many is no number of threads", "unset MKL_NUM_THREADS") in said
    fake.write("/sys/fs/cgroup/cpu.max", "300000 100000\n")
    text = "8 cores are seen, but this container may use 3"
    assert examined(check_threads, fake.machine()) == [("note", text, "data.workers=2")]
    assert examined(check_threads, fake.machine(), "cluster=tpu_v4_8") == [("failed", text, "data.workers=2")]
    fake.write("/sys/fs/cgroup/cpu.max", "max 100000\n")
    assert examined(check_threads, fake.machine())[0][0] == "ok"


def test_versions_that_do_not_fit_say_what_pip_does(fake, examined, monkeypatch):
    find = importlib.metadata.version
    versions = {"torch": "2.8.0", "jaxlib": "0.7.0", "timm": "0.9.2", "libtpu": "0.0.7", "xlatrain": "0.0.1"}
    assert not [f for f in examined(check_versions, fake.machine()) if f[0] == "failed"]
    monkeypatch.setattr(importlib.metadata, "version", lambda name: versions.get(name) or find(name))
    fake.tpu(1)
    said = {cure: text for status, text, cure in examined(check_versions, fake.machine()) if status == "failed"}
    assert set(said) == {
        "pip install 'torch==2.9.*' 'torch_xla==2.9.0'",
        "pip install 'jax==0.7.1' 'jaxlib==0.7.1'",
        "pip install 'timm>=1.0.20'",
        "pip install libtpu==0.0.21",
    }
    notes = [f[1] for f in examined(check_versions, fake.machine()) if f[0] == "note"]
    assert any("xlatrain 0.0.1 is installed" in text for text in notes)


def test_a_package_that_is_missing(fake, examined, monkeypatch):
    find = importlib.metadata.version

    def version(name):
        if name in ("timm", "jaxlib"):
            raise importlib.metadata.PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    said = examined(check_versions, fake.machine())
    assert ("failed", "timm: is not installed", "pip install xlatrain") in said
    assert any("jaxlib is not installed" in text for _, text, _ in said)


MEET = ["engine.runtime=jax", "cluster.hosts=2", "cluster.host=1"]


def test_the_coordinator_resolves(fake, examined, monkeypatch):
    assert examined(check_coordinator, fake.machine())[0][0] == "unknown"
    said = examined(check_coordinator, fake.machine(), *MEET, "cluster.coordinator=localhost:8476")
    assert said == [("ok", "localhost is 127.0.0.1", "")] or said == [("ok", "localhost is ::1", "")]

    def gone(*_, **__):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(network.socket, "getaddrinfo", gone)
    ((status, text, cure),) = examined(check_coordinator, fake.machine(), *MEET, "cluster.coordinator=head-0:8476")
    assert (status, text) == ("failed", "head-0 does not resolve: Name or service not known")
    assert cure == "getent hosts head-0; or its address: cluster.coordinator=ADDRESS:8476"


def test_a_coordinator_that_is_none_and_one_whose_port_is_taken(fake, examined):
    assert examined(check_coordinator, fake.machine(), *MEET)[0][0] == "failed"
    assert examined(check_coordinator, fake.machine(), "cluster.coordinator=head")[0][1].endswith("is no host:port")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        first = [*MEET[:2], "cluster.host=0", f"cluster.coordinator=127.0.0.1:{port}"]
        ((status, text, cure),) = examined(check_coordinator, fake.machine(), *first)
    assert (status, cure) == ("failed", f"ss -ltnp 'sport = :{port}'")
    assert "cannot listen there" in text


def test_data_are_read_and_what_cannot_be_read_is_told(fake, examined, tmp_path):
    def read(root):
        return examined(check_reading, fake.machine(), "data=shards", f"data.root={root}", "data.image_size=8")

    assert examined(check_reading, fake.machine(), "data=synthetic")[0][0] == "unknown"
    (tmp_path / "train").mkdir()
    ((status, text, cure),) = read(tmp_path)
    assert (status, cure) == ("failed", f"ls -l {tmp_path}/train")
    assert text == f"there is no {tmp_path}/train/index.json"
    (tmp_path / "train/index.json").write_text('{"shards": []}')
    assert "is no index of shards" in read(tmp_path)[0][1]
    (tmp_path / "train/index.json").write_text('{"shards": [{"name": "a.tar"}]}')
    (tmp_path / "train/a.tar").write_bytes(bytes(1 << 20))
    ((status, text, _),) = read(tmp_path)
    assert status == "ok"
    assert "MB/s (1.0 MB in" in text
    assert read("nothing://x")[0][:2] == ("failed", "data.root: nothing://x/train/index.json: nothing:// is not known")
    with serve() as server:
        server.status = 403
        ((status, text, cure),) = read(server.url("data").replace("http://", "http://me:hunter2@"))
        assert status == "failed"
        assert cure.startswith("give who may read it")
        assert "hunter2" not in text + cure
        server.status = None
        server.put("data/train/index.json", b'{"shards": [{"name": "a.tar"}]}')
        server.put("data/train/a.tar", bytes(1 << 20))
        assert read(server.url("data"))[0][0] == "ok"
        assert read(server.url("elsewhere"))[0][2].startswith("curl -I http://")


def test_room_for_runs_and_for_the_cache(fake, examined, tmp_path, monkeypatch):
    root = f"run.root={tmp_path}/runs"
    assert [f[0] for f in examined(check_space, fake.machine(), root)] == ["ok"]
    shards = ["data=shards", "data.root=gs://b", "data.image_size=8", f"data.cache={tmp_path}/cache"]
    assert examined(check_space, fake.machine(), root, *shards)[1][0] == "note"
    ((_, _, _), (status, text, cure)) = examined(check_space, fake.machine(), root, *shards, "data.cache_gb=1e9")
    assert status == "failed"
    assert "where there is room for" in text
    assert cure.startswith("data.cache_gb=")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: type("U", (), {"free": 2**20}))
    ((status, text, cure),) = examined(check_space, fake.machine(), root)
    assert (status, cure) == ("failed", f"du -xh --max-depth=1 {tmp_path} | sort -h; or run.root=FOLDER")
    monkeypatch.setattr(storage.os, "access", lambda path, mode: False)
    assert "cannot be written" in examined(check_space, fake.machine(), root)[0][1]
    ((status, text, cure),) = examined(check_space, fake.machine(), "run.root=memory://b/x")
    assert (status, cure) == ("failed", "run.root=FOLDER")
    assert "can be written, but runs write to a folder of this machine" in text
    assert "is not known" in examined(check_space, fake.machine(), "run.root=nothing://b/x")[0][1]


def test_checkpoints_that_find_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: type("U", (), {"free": 10 * 2**30}))
    assert space.space_faults("checkpoint.keep", tmp_path / "not/yet", 2**30, 9) == []
    (fault,) = space.space_faults("checkpoint.keep", tmp_path / "not/yet", 2**30, 10)
    assert fault.problem.startswith("10 of 1.00 GiB, and one in the making, need 11.00 GiB; ")
    assert fault.cure.startswith("checkpoint.keep=9, or free some")
    (fault,) = space.space_faults("checkpoint.keep", tmp_path, 9 * 2**30, 1)
    assert fault.cure == "free some, or name another folder"


def test_a_run_whose_checkpoints_find_no_room_does_not_start(tmp_path, monkeypatch):
    """Of the demo's model 1.8 MiB each, with momentum and average; what stands already has its room."""
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: type("U", (), {"free": 5 * 2**20}))
    run = [f"run.root={tmp_path}", "run.name=r"]
    words = r"checkpoint.keep: 2 of 1.8 MiB, and one in the making, need 5.3 MiB; .* has 5.0 MiB free\n"
    with pytest.raises(ConfigError, match=f"{words} *cure: checkpoint.keep=1, or free some"):
        check(run)
    with pytest.raises(ConfigError, match=r"checkpoint.keep_every: 10 of 1.8 MiB.*\n *cure: free some"):
        check([*run, "checkpoint.keep=1", "train.duration=90step", "checkpoint.keep_every=10step"])
    check([*run, "checkpoint.folder=memory://far"])
    check(run, starts=False)
    for step in (1, 2):
        (tmp_path / f"r/checkpoints/step-00000000{step}").mkdir(parents=True)
    check(run)
