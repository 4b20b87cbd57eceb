"""JAX's runtime is there in versions that fit, and machines are found as what started them has it."""

import importlib.metadata
import importlib.util

import pytest

from tests.faults import faults_of
from xlatrain.preflight.check import check
from xlatrain.preflight.hosts import Found, from_environment

JAX = ["engine.runtime=jax"]


def test_without_jax_its_runtime_is_a_fault_that_installs_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if "jax" in name else find(name, *more))
    (fault,) = faults_of(check, JAX)
    assert fault.key == "engine.runtime"
    assert "jax and jaxlib" in fault.problem
    assert "pip install 'xlatrain[jax]'" in fault.cure


@pytest.mark.parametrize("versions", [{"jax": "0.7.1", "jaxlib": "0.7.0"}, {"jax": "0.8.0", "jaxlib": "0.8.0"}])
def test_versions_that_do_not_fit_are_a_fault(monkeypatch, versions):
    find = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: versions.get(name) or find(name))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: name)
    (fault,) = faults_of(check, JAX)
    assert all(version in fault.problem for version in versions.values())
    assert "pip install 'xlatrain[jax]'" in fault.cure


SLURM = {"SLURM_STEP_NUM_NODES": "4", "SLURM_NODEID": "2"}
MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({**SLURM, "SLURM_STEP_NODELIST": "node[003-005,9]"}, Found(4, 2, "node003")),
        ({**SLURM, "SLURM_STEP_NODELIST": "a1,b[2-4]"}, Found(4, 2, "a1")),
        ({**SLURM, "SLURM_STEP_NODELIST": "gpu-[1,2]-ib,x[1-2]"}, Found(4, 2, "gpu-1-ib")),
        ({**MPI, "OMPI_MCA_orte_hnp_uri": "12.0;tcp://10.0.0.1,172.17.0.1:34911"}, Found(2, 1, "10.0.0.1")),
        ({"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "t-0.t,t-1.t"}, Found(2, 1, "t-0.t")),
        ({"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({**SLURM, "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "a1"}, None),
        ({"SLURM_NNODES": "4", "SLURM_NODEID": "0"}, None),  # in an allocation, but not started by srun
        ({}, None),
    ],
)
def test_machines_are_found_in_the_environment(variables, found):
    assert from_environment(variables) == found


def test_of_what_does_not_start_nothing_is_asked(monkeypatch):
    """Neither which machine this is nor whether JAX is there: nothing is joined to plan, export or draw it."""
    pods = [*JAX, "cluster=tpu_v3_32", "train.global_batch=64"]
    assert {fault.key for fault in faults_of(check, pods)} == {"cluster.host", "cluster.coordinator"}
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if "jax" in name else find(name, *more))
    for name, value in {**SLURM, "SLURM_STEP_NODELIST": "a[1-4]"}.items():
        monkeypatch.setenv(name, value)
    cluster = check(pods, starts=False).config.cluster
    assert (cluster.hosts, cluster.host, cluster.coordinator) == (4, None, None)


def test_options_come_before_the_environment(monkeypatch):
    for name, value in {**SLURM, "SLURM_STEP_NODELIST": "a[1-4]"}.items():
        monkeypatch.setenv(name, value)
    assert check([]).config.cluster.hosts is None
    cluster = check(JAX).config.cluster
    assert (cluster.hosts, cluster.host, cluster.coordinator) == (4, 2, "a1:8476")
    cluster = check([*JAX, "cluster.host=3", "cluster.coordinator=b:1"]).config.cluster
    assert (cluster.hosts, cluster.host, cluster.coordinator) == (4, 3, "b:1")
