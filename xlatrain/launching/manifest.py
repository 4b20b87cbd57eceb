"""A run as a JobSet of Kubernetes, by launch/jobset.yaml: what GKE is asked for follows from the cluster's file."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

from xlatrain.config.override import given_keys
from xlatrain.config.schema import Config
from xlatrain.credentials import masked
from xlatrain.errors import Fault
from xlatrain.launching.faults import checkout_faults, own_folder_faults, own_weights_faults
from xlatrain.launching.script import train_words

TEMPLATE = Path(__file__).resolve().parent.parent.parent / "launch" / "jobset.yaml"
_NAME = r"[a-z](?:[-a-z0-9]{0,38}[a-z0-9])?"  # the rest of 63 is for what JobSet appends to it
# Seconds between SIGTERM and SIGKILL: Compute Engine's 30 of a spot machine, else the five minutes of maintenance.
_GRACE = {"spot": 30}
_GRACE_ELSE = 300
# Of several machines, which are a node pool of their own; those of one share theirs with others.
_EXCLUSIVE = """
  annotations:
    # All pods of the job on the node pool of one slice, and no others there.
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool"""
_SPOT = '{key: cloud.google.com/gke-spot, operator: Equal, value: "true", effect: NoSchedule}'
_ROOT = "/runs"  # of all runs, in a pod
_VM_CHIPS = (1, 4, 8)  # of a machine of GKE's


def manifest(config: Config, overrides: Sequence[str]) -> str:
    """The JobSet of a run as YAML. config: one without manifest_faults; overrides: what it was composed of."""
    launch, cluster, chip = config.launch, config.cluster, config.cluster.chip
    name, hosts, spot = launch.name or config.run.name, cluster.hosts or 1, launch.capacity == "spot"
    words, root = train_words(config, overrides), config.run.root
    if "run.root" not in given_keys(overrides):
        words, root = [*words, f"run.root={_ROOT}"], _ROOT
    run = f"{root}/{config.run.name or name}"
    flags = ["--alone", f"--run={run}", f"--folder={launch.folder}", f"--stage={launch.stage}"]
    accelerator = chip.gke_single_host if hosts == 1 and chip.gke_single_host else chip.gke_accelerator
    return Template(TEMPLATE.read_text()).substitute(
        what=f"{cluster.name}, {launch.capacity.replace('_', ' ')}",
        command=_comment(["xlatrain", "launch", "manifest", *overrides]),
        name=quoted(name),
        exclusive=_EXCLUSIVE if hosts > 1 else "",
        restarts=launch.max_tries - 1,
        hosts=hosts,
        grace=_GRACE.get(launch.capacity, _GRACE_ELSE),
        account=f"\n{' ' * 14}serviceAccountName: {quoted(launch.pod_account)}" if launch.pod_account else "",
        accelerator=quoted(accelerator),
        topology=quoted("x".join(map(str, cluster.topology))),
        spot=f'\n{" " * 16}cloud.google.com/gke-spot: "true"' if spot else "",
        tolerate=f"\n{' ' * 16}- {_SPOT}" if spot else "",
        image=quoted(launch.image),
        args=quoted([word.replace("$(", "$$(") for word in (*flags, "--", *words)]),  # Kubernetes fills in $(NAME)
        chips=math.prod(cluster.topology) // hosts,
    )


def quoted(value: str | list[str]) -> str:
    """As YAML, of which JSON is a part."""
    return json.dumps(value, ensure_ascii=False)


def _comment(words: Sequence[str]) -> str:
    return " ".join(masked(shlex.join(words)).split())


def manifest_faults(config: Config, overrides: Sequence[str]) -> list[Fault]:
    """What keeps a run from being a JobSet."""
    return [*_of_names(config), *_of_slice(config), *_of_command(config, overrides)]


def _of_names(config: Config) -> Iterator[Fault]:
    launch, name = config.launch, config.launch.name or config.run.name
    yield from checkout_faults(TEMPLATE, "manifests are written")
    if not name:
        yield Fault("run.name", "is open", "give the run a name, which its JobSet has too: run.name=b2")
    elif not re.fullmatch(_NAME, name):
        cure = "take up to 40 small letters, digits and -, a letter first: launch.name=b2"
        yield Fault("launch.name", f"{name!r} is no name for a JobSet", cure)
    if not launch.image:
        cure = "build one and push it where the cluster can fetch it: docker build -f launch/Dockerfile -t IMAGE ."
        yield Fault("launch.image", "is open: pods run a container image", cure)
    if not launch.folder or not re.match(r"(gs|s3)://", launch.folder):
        found = "is open" if not launch.folder else f"{launch.folder} is of each pod alone"
        problem = f"{found}: checkpoints and results would go with the pods"
        yield Fault("launch.folder", problem, "name a bucket: launch.folder=gs://BUCKET/runs")


def _of_slice(config: Config) -> Iterator[Fault]:
    cluster, chip = config.cluster, config.cluster.chip
    if cluster.platform != "tpu":
        yield Fault("cluster", f"{cluster.name} is no TPU slice", "take one, as cluster=tpu_v5e_16")
        return
    if not chip.gke_accelerator:
        cure = "take a slice of v3 to v6e, or give cluster.chip.gke_accelerator"
        yield Fault("cluster.chip.gke_accelerator", f"GKE is not known to have {chip.name}", cure)
    chips, hosts = math.prod(cluster.topology), cluster.hosts or 1
    if not cluster.topology:
        yield Fault("cluster.topology", "is open", "give the chips along each axis, as in [4,4]")
    elif hosts > 1 and chips < 4 * hosts and hosts * 4 % chips == 0:
        problem = f"{hosts} machines are {hosts * 4 // chips} slices of {'x'.join(map(str, cluster.topology))} chips"
        cure = "several slices (multislice) are not supported: take one that is larger, as cluster=tpu_v5e_64"
        yield Fault("cluster.hosts", problem, cure)
    elif chips % hosts or chips // hosts not in _VM_CHIPS:
        problem = f"{chips} chips on {hosts} machines are none of {', '.join(map(str, _VM_CHIPS))} a machine"
        yield Fault("cluster.hosts", problem, "leave it as the cluster's file has it")


def _of_command(config: Config, overrides: Sequence[str]) -> Iterator[Fault]:
    if config.run.resume == "never":
        yield Fault("run.resume", "never: each restart would begin anew", "leave it out")
    yield from own_weights_faults(config, "pods")
    yield from own_folder_faults(overrides, "pods")
