"""What a slice needs from gcloud, and what it costs, from the options of a run."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from xlatrain.config.schema import Config
from xlatrain.words import counted

STAND_IN = "stand-in"
_STAND_IN_PRICE = 1.0  # USD per replica-hour, so that a rehearsal has a bill


@dataclass(frozen=True)
class Slice:
    """usd_per_hour: of all of it; None where the price of its chip is not known. topology: as gcloud writes it, "" to
    ask by accelerator type."""

    name: str
    zone: str
    project: str | None
    accelerator_type: str
    topology: str
    runtime_version: str
    capacity: str
    chips: int
    hosts: int
    usd_per_hour: float | None

    def __str__(self) -> str:
        machines = counted(self.hosts, "machine")
        chips = f"{counted(self.chips, 'chip')}, " if self.accelerator_type.partition(":")[0] != STAND_IN else ""
        return f"{self.accelerator_type} ({chips}{machines}), {self.capacity.replace('_', ' ')}, in {self.zone}"


def slice_of(config: Config) -> Slice:
    """Of a config without launch_faults."""
    launch, cluster, chip = config.launch, config.cluster, config.cluster.chip
    hosts = cluster.hosts or 1
    if cluster.platform == "tpu":
        chips = math.prod(cluster.topology)
        price = chip.price_spot if launch.capacity == "spot" else chip.price_on_demand
        accelerator, runtime = cluster.accelerator_type, chip.runtime_version
    else:
        chips, price, accelerator, runtime = cluster.replicas, _STAND_IN_PRICE, f"{STAND_IN}-{hosts}", STAND_IN
    return Slice(
        launch.name or config.run.name,
        launch.zone,
        launch.project,
        accelerator,
        "x".join(map(str, cluster.topology)) if launch.by_topology else "",
        runtime,
        launch.capacity,
        chips,
        hosts,
        None if price is None else chips * price,
    )


def flags_of(config: Config, wheel: str | None) -> list[str]:
    """The flags of launch/tpu_vm.sh for a run. wheel: that is installed, where the machines have no interpreter of
    their own."""
    launch, wanted = config.launch, slice_of(config)
    values = {
        "name": wanted.name,
        "zone": wanted.zone,
        "project": wanted.project,
        "accelerator-type": wanted.accelerator_type,
        "type": config.cluster.chip.name if wanted.topology else None,
        "topology": wanted.topology,
        "runtime-version": wanted.runtime_version,
        "capacity": wanted.capacity,
        "network": launch.network,
        "subnetwork": launch.subnetwork,
        "service-account": launch.service_account,
        "valid-for": None if launch.max_wait is None else f"{math.ceil(launch.max_wait * 3600)}s",
        "wheel": wheel,
        "pip": shlex.join(launch.pip),
        "python": launch.python,
    }
    flags = [f"--{name}={value}" for name, value in values.items() if value]
    return flags + ["--internal-ips"] * launch.internal_ips
