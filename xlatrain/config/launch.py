"""Options of `xlatrain launch`: machines of Google Cloud for a run, and what they may cost."""

from __future__ import annotations

from dataclasses import dataclass

from xlatrain.config.option import option


@dataclass
class LaunchConfig:
    name: str | None = option(None, "of the machines; null = run.name, which else takes it from here")
    zone: str | None = option(None, "of Google Cloud, as in us-central2-b")
    project: str | None = option(None, "of Google Cloud; null = the one that gcloud is set to")
    capacity: str = option(
        "on_demand",
        "spot machines cost less and may be taken away at any time; reserved ones are those of a reservation of yours",
        choices=("on_demand", "spot", "reserved"),
    )
    by_topology: bool = option(
        False,
        "ask for cluster.topology instead of cluster.accelerator_type; v2 to v4: gcloud takes no newer type with it",
    )
    network: str | None = option(None, "network of the machines; null = default")
    subnetwork: str | None = option(None, "subnetwork of the machines; null = the network's of the zone")
    internal_ips: bool = option(False, "no addresses that can be reached from outside: launch from within the network")
    service_account: str | None = option(
        None, "whose rights the machines have, as for buckets; null = the default one of Compute Engine"
    )
    folder: str | None = option(
        None,
        "gs://… or a folder that all machines see, where each run has a folder of its name: its checkpoints, and "
        "copies of all else that it writes, which come back on a new machine; null = all stays on the machine",
    )
    python: str | None = option(
        None,
        "an interpreter that is on the machines and has xlatrain; null = a wheel of this checkout is installed there",
    )
    pip: list[str] = option([], "further words for pip install on the machines, as in [--pre]")
    stage: str = option(
        "auto",
        "where remote shards are kept once read (data.cache): memory, disk, or auto = the first of these that holds "
        "them all, else none",
        choices=("auto", "memory", "disk", "none"),
    )
    image: str | None = option(None, "manifest: a container image with xlatrain, as launch/Dockerfile makes it")
    pod_account: str | None = option(
        None, "manifest: Kubernetes' service account of the pods, as for buckets; null = the namespace's default"
    )
    max_usd: float | None = option(
        None,
        "what machines may cost, by the cluster's prices; the run is stopped before; null = no limit",
        "USD",
        low=0,
    )
    max_hours: float | None = option(24.0, "how long there may be machines, all in all; null = no limit", "h", low=0)
    max_tries: int = option(20, "machines that are asked for, all in all", low=1)
    max_wait: float | None = option(
        24.0, "how long a request may wait for machines, after which it counts as a try; null = no limit", "h", low=0.01
    )
    poll: float = option(30.0, "how often machines and run are looked at", "seconds", low=0.01)
    retry: float = option(60.0, "before machines are asked for again; doubles while none come", "seconds", low=0)
    stand_in: bool = option(
        False, "rehearse: launch/stand_in/gcloud plays the machines, as folders and processes of this one"
    )
