"""Whether what is to run the steps is there, and can run so many replicas in so many processes."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from xlatrain.config.schema import Config
from xlatrain.errors import Fault
from xlatrain.preflight.gpus import INSTALL, gpu_faults, plugin_faults
from xlatrain.preflight.hosts import host_faults
from xlatrain.words import counted

_INSTALL = "pip install 'xlatrain[jax]', or take engine.runtime=torch_xla"
_SERIES = "0.7."  # of jax and jaxlib: what they have for programs not their own is private, and moves


def runtime_faults(config: Config, starts: bool) -> list[Fault]:
    """What is wrong with engine.runtime and the processes that it is to start. Of a config that is decided. starts:
    whether the run is to start here; else nothing is asked of this machine, or of what is installed on it."""
    cluster = config.cluster
    hosts, on_host = cluster.hosts or 1, cluster.processes_per_host or 1
    processes = hosts * on_host
    if config.engine.runtime != "jax":
        if cluster.platform == "gpu":
            cure = "take engine.runtime=jax, or leave it out"
            return [Fault("engine.runtime", "torch_xla 2.9 runs on no GPU", cure)]
        if cluster.platform == "cpu" and processes > 1:
            key = "cluster.processes_per_host" if on_host > 1 else "cluster.hosts"
            cure = "take engine.runtime=jax, or leave it out"
            return [Fault(key, f"torch_xla cannot join {processes} processes on CPU", cure)]
        return []
    faults, on_gpu = [], cluster.platform == "gpu"
    if starts:
        install = INSTALL if on_gpu else _INSTALL
        faults = _installed(install) or (plugin_faults() if on_gpu else [])
        faults += host_faults(cluster) + (gpu_faults(cluster) if on_gpu else [])
    if on_gpu and on_host > 1:
        problem = f"all GPUs of a machine are in one process, not {on_host}"
        faults.append(Fault("cluster.processes_per_host", problem, "take 1, or leave it out"))
    if cluster.platform == "cpu" and cluster.replicas % processes:
        problem = f"{counted(cluster.replicas, 'replica')} do not divide among {processes} processes"
        fitting = max(n for n in range(1, processes) if cluster.replicas % n == 0)
        cure = f"take cluster.replicas={-(-cluster.replicas // processes) * processes}"
        cure += f" or cluster.processes_per_host={fitting}" if hosts == 1 else ""
        faults.append(Fault("cluster.processes_per_host", problem, cure))
    return faults


def _installed(install: str) -> list[Fault]:
    """Whether JAX is there, in versions that fit; it is not imported for it."""
    if absent := [name for name in ("jax", "jaxlib") if importlib.util.find_spec(name) is None]:
        return [Fault("engine.runtime", f"jax needs {' and '.join(absent)}, not installed", install)]
    jax, jaxlib = (importlib.metadata.version(name) for name in ("jax", "jaxlib"))
    if jax != jaxlib or not jax.startswith(_SERIES):
        problem = f"jax {jax} and jaxlib {jaxlib} are there; it takes {_SERIES}x, both the same"
        return [Fault("engine.runtime", problem, install)]
    return []
