"""Which of several machines this is, and where they meet: from the options, or from what started the command."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from xlatrain.config.cluster import ClusterConfig
from xlatrain.errors import Fault

_PORT = 8476  # of the coordinator, where nothing says another: that of JAX


@dataclass(frozen=True)
class Found:
    """What a starter says of the machines of a run. first: the name or address of machine 0."""

    hosts: int
    host: int
    first: str


def with_hosts(cluster: ClusterConfig) -> ClusterConfig:
    """The cluster with what is left open of its machines. For JAX's runtime: torch_xla knows its TPU VMs."""
    if None not in (cluster.hosts, cluster.host, cluster.coordinator):
        return cluster
    found = from_environment(os.environ)
    if found is None or cluster.hosts not in (None, found.hosts):
        return cluster
    host = found.host if cluster.host is None else cluster.host
    return replace(cluster, hosts=found.hosts, host=host, coordinator=cluster.coordinator or f"{found.first}:{_PORT}")


def host_faults(cluster: ClusterConfig) -> list[Fault]:
    """What is not known of the machines of a run of JAX's runtime, or is not possible."""
    hosts, faults = cluster.hosts or 1, []
    if hosts > 1 and cluster.host is None:
        problem = f"which of the {hosts} machines this is is not known"
        cure = f"give 0 to {hosts - 1}, or start it on each by srun, mpirun or GKE"
        faults.append(Fault("cluster.host", problem, cure))
    if hosts > 1 and not re.fullmatch(r".+:\d+", cluster.coordinator or ""):
        problem = f"{cluster.coordinator!r} is no host:port where {hosts} machines could meet"
        faults.append(Fault("cluster.coordinator", problem, f"name machine 0: cluster.coordinator=HOST:{_PORT}"))
    if (cluster.host or 0) >= hosts:
        problem = f"{cluster.host} is none of {hosts}, which count from 0"
        faults.append(Fault("cluster.host", problem, f"take 0 to {hosts - 1}, or cluster.hosts={cluster.host + 1}"))
    return faults


def from_environment(variables: Mapping[str, str]) -> Found | None:
    """As srun, mpirun or GKE started this command, one process on each machine; None where none of them did, or on one
    machine only."""
    for find in (_slurm, _open_mpi, _gke):
        found = find(variables)
        if found and found.hosts > 1:
            return found
    return None


def _slurm(variables: Mapping[str, str]) -> Found | None:
    names = ("SLURM_STEP_NUM_NODES", "SLURM_NODEID", "SLURM_STEP_NODELIST")
    if not all(name in variables for name in names):
        return None
    hosts, host, nodes = (variables[name] for name in names)
    # node[003-007,9],other: the first is node003.
    first = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\]([^,]*))?", nodes)
    return Found(int(hosts), int(host), "".join(part or "" for part in first.groups()))


def _open_mpi(variables: Mapping[str, str]) -> Found | None:
    """Its launcher lives on the machine where mpirun was typed, which has rank 0 unless it was told otherwise."""
    address = re.search(r"tcp://([^:,/]+)", variables.get("OMPI_MCA_orte_hnp_uri", ""))
    names = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
    if not address or not all(name in variables for name in names):
        return None
    size, rank = (int(variables[name]) for name in names)
    return Found(size, rank, address[1])


def _gke(variables: Mapping[str, str]) -> Found | None:
    if "TPU_WORKER_ID" not in variables or not variables.get("TPU_WORKER_HOSTNAMES"):
        return None
    names = variables["TPU_WORKER_HOSTNAMES"].split(",")
    return Found(len(names), int(variables["TPU_WORKER_ID"]), names[0])
