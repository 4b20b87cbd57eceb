"""A process becomes part of a run of JAX's runtime: configuration, coordinator, devices."""

from __future__ import annotations

import os
import signal

import jax

from xlatrain.files import user_cache
from xlatrain.xla import jax_watch
from xlatrain.xla.arrival import meet
from xlatrain.xla.replica_main import Job

_PLATFORMS = {"cpu": "cpu", "tpu": "tpu", "gpu": "cuda"}


_NO_LIMIT = 2**62  # bytes


def join(job: Job, number: int, processes: int, address: str, arrival: int, heartbeat: int) -> int:
    """Join the run as process `number`; returns the number of devices here. arrival, heartbeat: seconds in which all
    have to be there, and without a sign of life after which a process is dead. Raises TimeoutError that names who did
    not come."""
    jax.config.update("jax_platforms", _PLATFORMS[job.platform])
    jax.config.update("jax_enable_x64", True)  # else int64 labels and counters would become int32
    if job.platform == "cpu":
        jax.config.update("jax_num_cpu_devices", job.replicas // processes)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    _keep_programs(job.cache_bytes)
    jax_watch.watch()
    if processes > 1:
        meet(number, processes, address, arrival)
        jax.distributed.initialize(
            address,
            processes,
            number,
            initialization_timeout=arrival,
            coordinator_bind_address=address if address.startswith("127.") else None,
            heartbeat_timeout_seconds=heartbeat,
            cluster_detection_method="deactivate",
        )
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # JAX would take it for a notice of preemption, and go on
    return len(jax.local_devices())


def _keep_programs(most: int | None) -> None:
    """Set up JAX's compile cache, which keeps as many bytes at most; one in a folder that the user has named to JAX is
    left as it is. Entries say when they were last used only where a limit is set, and JAX fails on those that do not:
    so there always is one, in a folder that no other release has written to."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if os.environ.get("XLA_HLO_DEBUG"):  # else a program that was kept without names of modules would be taken
        jax.config.update("jax_compilation_cache_include_metadata_in_key", True)
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(user_cache() / "jax" / jax.__version__))
        jax.config.update("jax_compilation_cache_max_size", _NO_LIMIT if most is None else most)


def leave() -> None:
    """Leave the run together with all its processes: one that goes first takes the coordinator with it, and the others
    would be aborted while they end."""
    jax.distributed.shutdown()
