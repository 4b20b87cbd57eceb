"""The part of the schema that describes what a run runs on: replicas, slices, chips."""

from __future__ import annotations

import math
from dataclasses import dataclass

from omegaconf import MISSING

from xlatrain.config.option import option


@dataclass
class ChipConfig:
    name: str = MISSING
    devices: int = option(MISSING, "replicas a chip runs: 2 cores on v2 and v3, else 1", low=1)
    clock_mhz: float | None = option(None, "core clock; null = no times from cycles", "MHz", low=1)
    hbm_gib: float | None = option(None, "memory", "GiB a chip", low=0)
    hbm_gb_per_s: float | None = option(None, "memory bandwidth", "GB/s a chip", low=0)
    peak_tflops: float | None = option(None, "bf16 peak", "TFLOP/s a chip", low=0)
    vmem_mib: float | None = option(None, "on-chip memory of a replica", "MiB", low=0)
    ici_links: int | None = option(None, "links to neighbouring chips", low=0)
    ici_gb_per_s: float | None = option(None, "a link, one way", "GB/s", low=0)
    hop_us: float | None = option(None, "latency of a hop", "µs", low=0)
    price_on_demand: float | None = option(None, "on-demand price", "USD per chip-hour", low=0)
    price_spot: float | None = option(None, "spot price", "USD per chip-hour", low=0)
    price_date: str | None = option(None, "when the prices were true")
    runtime_version: str | None = option(None, "software that Google Cloud puts on a TPU VM of it")
    gke_accelerator: str | None = option(None, "its name in GKE; null = GKE has none")
    gke_single_host: str | None = option(None, "the same for a slice of one machine, where that has another name")


@dataclass
class ClusterConfig:
    name: str = MISSING
    platform: str = option(MISSING, "what the replicas run on", choices=("cpu", "tpu", "gpu"))
    replicas: int | None = option(
        MISSING,
        "replicas of the whole run; on TPU the number of cores that PyTorch/XLA sees; null on GPU = all GPUs",
        low=1,
    )
    torus_width: int | None = option(
        None, "replicas in a row of the torus, in ordinal order; batch norm groups above 16 become boxes", low=1
    )
    accelerator_type: str | None = option(None, "the slice's name, as in v3-1024")
    topology: list[int] = option([], "chips along each axis of the torus")
    wrap: list[bool] = option([], "axes whose ends are linked")
    hosts: int | None = option(
        None,
        "machines, TPU VMs; with engine.runtime=jax the same command is started on each; null = as SLURM, Open MPI or "
        "GKE have it, else 1",
        low=1,
    )
    host: int | None = option(
        None, "the number of this machine among them; null = as SLURM, Open MPI or GKE have it", low=0
    )
    coordinator: str | None = option(
        None, "host:port of machine 0, a free port that all can reach; null = as SLURM, Open MPI or GKE have it"
    )
    processes_per_host: int | None = option(
        None, "training processes on each; on CPU null = 1, and more with engine.runtime=jax only; on GPU 1", low=1
    )
    chip: ChipConfig | None = None


def usd_per_hour(cluster: ClusterConfig, spot: bool = False) -> float | None:
    """What all chips of a cluster cost; None where no price is known."""
    chip = cluster.chip
    price = None if chip is None else chip.price_spot if spot else chip.price_on_demand
    return None if price is None or not cluster.topology else price * math.prod(cluster.topology)
