"""The GPUs of this machine, found without a process on one: as the driver lists them, and what hides some of them."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from xlatrain.config.cluster import ClusterConfig
from xlatrain.errors import Fault
from xlatrain.words import counted

_PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin")
INSTALL = "pip install 'xlatrain[cuda]'"
_CHOICE = "CUDA_VISIBLE_DEVICES"


def count_gpus() -> int:
    """Those that a process started here would see."""
    return count_visible(_listed(shutil.which("nvidia-smi")), os.environ.get(_CHOICE))


def gpu_faults(cluster: ClusterConfig) -> list[Fault]:
    """Why a run cannot start on the GPUs of this machine. Of a cluster that is decided."""
    faults, hosts = [], cluster.hosts or 1
    if (there := count_gpus()) == 0:
        hidden = len(_listed(shutil.which("nvidia-smi")))
        problem = "there is no GPU on this machine: nvidia-smi lists none, and there is no /dev/nvidia0"
        cure = "take another cluster, as cluster=cpu; `xlatrain export step cluster=gpu` needs none"
        if hidden:
            problem = f"{_CHOICE}={os.environ[_CHOICE]!r} hides the {counted(hidden, 'GPU')} of this machine"
            cure = f"unset {_CHOICE}, or name them in it"
        faults.append(Fault("cluster", problem, cure))
    elif cluster.replicas != there * hosts:
        where = f"this machine has {counted(there, 'GPU')}"
        where += f", {hosts} like it {there * hosts}" if hosts > 1 else ""
        cure = f"take cluster.replicas={there * hosts}, or leave it out; fewer GPUs by {_CHOICE}=0"
        faults.append(Fault("cluster.replicas", f"{counted(cluster.replicas, 'replica')}, and {where}", cure))
    return faults


def describe_replicas(asked: ClusterConfig, decided: ClusterConfig) -> str | None:
    """What was taken for cluster.replicas=null; None where a number was asked for."""
    if asked.replicas is not None:
        return None
    why = "one on each GPU" if count_gpus() else "since there is no GPU here to count; cluster.replicas=… asks for more"
    return f"{counted(decided.replicas, 'replica')}, {why}"


def count_visible(listed: Sequence[str], choice: str | None) -> int:
    """How many GPUs of a list CUDA_VISIBLE_DEVICES leaves: CUDA takes its entries up to the first that is none. listed:
    their UUIDs, or of some driver that says none, anything. choice: the variable, None where it is not set."""
    if choice is None:
        return len(listed)
    names = [name.strip() for name in choice.split(",")]
    return next((i for i, name in enumerate(names) if not _is_one(name, listed)), len(names))


def _is_one(name: str, listed: Sequence[str]) -> bool:
    if name.isdecimal():
        return int(name) < len(listed)
    # A slice of a GPU is not in the list; that it is there is for CUDA to say.
    return name.startswith("MIG-") or (name.startswith("GPU-") and any(uuid.startswith(name) for uuid in listed))


@functools.cache
def _listed(command: str | None) -> tuple[str, ...]:
    """The GPUs of this machine by UUID, or where there is no nvidia-smi that can say, by device file."""
    if command:
        try:
            done = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=60, check=True)
            return tuple(re.findall(r"^GPU \d+: .*\(UUID: (GPU-[^)]*)\)", done.stdout, re.MULTILINE))
        except (OSError, subprocess.SubprocessError):
            pass
    return tuple(sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*")))


def plugin_faults() -> list[Fault]:
    """Whether what brings JAX to GPUs is there, of the same release as JAX, which leaves out another in silence."""
    found = {}
    for name in (*_PLUGINS, "jax"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    jax = found.pop("jax", None)
    if not found:
        return [Fault("cluster", f"on GPU jax needs {_PLUGINS[0]}, not installed", INSTALL)]
    if jax and jax not in found.values():
        name, version = next(iter(found.items()))
        return [Fault("cluster", f"{name} {version} is there, and jax {jax}; they have to be the same", INSTALL)]
    return []
