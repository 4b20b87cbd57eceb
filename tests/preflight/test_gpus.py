"""A run on GPUs: what it takes, what is missing for it on a machine like this one, and what needs none."""

import importlib.metadata
import os

import pytest

from tests.faults import faults_of
from xlatrain.cli.main import main
from xlatrain.preflight import gpus
from xlatrain.preflight.check import check

pytest.importorskip("jax")

GPU = ["cluster=gpu"]
UUIDS = ("GPU-1a", "GPU-2b")


@pytest.fixture
def plugin(monkeypatch):
    """JAX's plugin for CUDA seems to be installed, in the release that is returned when it is called with one."""
    versions, find = {"jax-cuda12-plugin": importlib.metadata.version("jax")}, importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: versions.get(name) or find(name))
    return versions


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """An nvidia-smi that lists two GPUs, a slice of one and what it warns of."""
    command = tmp_path / "nvidia-smi"
    lines = [f"GPU {i}: NVIDIA H100 80GB HBM3 (UUID: {uuid})" for i, uuid in enumerate(UUIDS)]
    text = "\n".join(["WARNING: infoROM is corrupted", lines[0], "  MIG 1g.10gb Device 0: (UUID: MIG-3c)", lines[1]])
    command.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_driver(monkeypatch):
    monkeypatch.setattr(gpus, "_listed", lambda command: ())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_without_gpu_and_plugin_nothing_is_started(no_driver, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpus, "_PLUGINS", ("no-such-plugin",))
    assert main(["train", "cluster=gpu", f"run.root={tmp_path / 'runs'}"]) == 2
    said = capsys.readouterr().err
    assert "no-such-plugin, not installed\n    cure: pip install 'xlatrain[cuda]'" in said
    assert "there is no GPU on this machine" in said
    assert "cluster=cpu" in said
    assert not (tmp_path / "runs").exists()


def test_a_plugin_of_another_release_is_a_fault(plugin, driver):
    plugin["jax-cuda12-plugin"] = "0.6.2"
    (fault,) = faults_of(check, GPU)
    assert "jax-cuda12-plugin 0.6.2" in fault.problem
    assert "pip install 'xlatrain[cuda]'" in fault.cure


def test_without_jax_the_cure_is_what_gpus_need(driver, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if "jax" in name else find(name, *more))
    (fault,) = faults_of(check, GPU)
    assert (fault.key, fault.cure) == ("engine.runtime", "pip install 'xlatrain[cuda]'")


def test_all_gpus_are_taken_and_convolutions_are_native(plugin, driver):
    run = check([*GPU, "precision=bf16", "model=efficientnet_b0", "data=synthetic"])
    config = run.config
    assert config.cluster.replicas == 2
    assert (config.engine.runtime, config.engine.in_flight) == ("jax", 2)
    assert (config.model.depthwise, config.model.layout, config.model.fold) == ("native", "channels_first", False)
    assert run.notes[0] == "2 replicas, one on each GPU"


def test_machines_alike_have_as_many_each(plugin, driver):
    two = ["cluster.hosts=2", "cluster.host=1", "cluster.coordinator=a:1"]
    assert check([*GPU, *two]).config.cluster.replicas == 4
    assert check([*GPU, *two, "cluster.replicas=4"]).config.cluster.replicas == 4
    (fault,) = faults_of(check, [*GPU, *two, "cluster.replicas=2"])
    assert "2 like it 4" in fault.problem


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        (["cluster.replicas=4"], "cluster.replicas", ["this machine has 2 GPUs", "cluster.replicas=2"]),
        (["cluster.replicas=1"], "cluster.replicas", ["this machine has 2 GPUs", "CUDA_VISIBLE_DEVICES=0"]),
        (["engine.runtime=torch_xla"], "engine.runtime", ["torch_xla 2.9 runs on no GPU", "engine.runtime=jax"]),
        (["cluster.processes_per_host=2"], "cluster.processes_per_host", ["in one process, not 2", "take 1"]),
        (["cluster=cpu", "cluster.replicas=null"], "cluster.replicas", ["is for GPUs", "cluster.replicas=8"]),
    ],
)
def test_what_gpus_cannot_do_is_a_fault(overrides, key, words, plugin, driver):
    (fault,) = faults_of(check, [*GPU, *overrides])
    assert fault.key == key
    assert all(word in f"{fault.problem} {fault.cure}" for word in words)


def test_hidden_gpus_are_not_taken(plugin, driver, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert check(GPU).config.cluster.replicas == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (fault,) = faults_of(check, GPU)
    assert fault.problem == "CUDA_VISIBLE_DEVICES='' hides the 2 GPUs of this machine"
    assert "unset CUDA_VISIBLE_DEVICES" in fault.cure


@pytest.mark.parametrize(
    ("choice", "count"),
    [(None, 2), ("", 0), ("-1", 0), ("0", 1), ("1, 0", 2), ("0,2,1", 1), ("GPU-2", 1), ("GPU-9", 0), ("MIG-3c", 1)],
)
def test_cuda_takes_the_entries_up_to_the_first_that_is_none(choice, count):
    assert gpus.count_visible(UUIDS, choice) == count


def test_a_driver_that_fails_leaves_the_device_files(tmp_path):
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\nexit 9\n")
    command.chmod(0o755)
    assert gpus._listed(str(command)) == gpus._listed(None)


def test_what_does_not_start_needs_no_gpu(no_driver, monkeypatch):
    """As a bundle, or a schedule that is drawn."""
    monkeypatch.setattr(gpus, "_PLUGINS", ("no-such-plugin",))
    run = check(GPU, starts=False)
    assert run.config.cluster.replicas == 1
    assert "no GPU here to count" in run.notes[0]
    assert check([*GPU, "cluster.replicas=4"], starts=False).config.cluster.replicas == 4
    assert faults_of(lambda o: check(o, starts=False), [*GPU, "engine.runtime=torch_xla"])
